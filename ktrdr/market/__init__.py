"""What is traded, when, and how its bars are named: values. Nothing about IB, files or clocks."""
