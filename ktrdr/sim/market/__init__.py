"""What is traded at the simulated gateway: contracts, sessions, bars. None of it is real."""
