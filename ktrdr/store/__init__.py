"""Bar files: read, extended, replaced, whole at every moment. It knows of no gaps."""
