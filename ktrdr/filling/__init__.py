"""What is missing from a store, why, and the filling of it. It never talks to IB itself."""
