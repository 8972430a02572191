"""What is traded, when, and how its bars are named: values. Nothing of IB, files or clocks."""
