"""The parts of the gap filler: scan, schedule, gateway, clocks, fills, and what it reports."""
