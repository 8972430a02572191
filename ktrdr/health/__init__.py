"""The state of the group at one moment, and the one verdict on it."""
