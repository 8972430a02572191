"""The market of the simulated gateway: contracts, sessions, bars. None of it is real."""
