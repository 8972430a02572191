"""The gap filler's service: scans, gateway, clocks, fills, status. Decides on no bars."""
