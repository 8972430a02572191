"""Does: talks to IB, keeps the files, serves the bars."""
