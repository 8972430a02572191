"""What is missing, why, and what is believed of it: the rules, as functions of values."""
