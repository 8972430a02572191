"""What is traded, when, and how its bars are named: values. No connection, files or clocks."""
