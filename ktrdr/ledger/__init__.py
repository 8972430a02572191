"""What IB has been asked, and what it answered: SQLite in the store. Weighs nothing."""
