"""The simulated gateway: the TWS API's server side, IB's limits, and faults on demand."""
