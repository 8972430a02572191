"""The entry points: the programs `ib_*`, and `data_manager` to read bars."""
