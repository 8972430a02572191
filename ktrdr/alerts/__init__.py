"""What is notified of, when, and to whom: the verdict's problems, each once."""
