"""Bar files: reads, extends and replaces them, whole at every moment. Knows nothing of gaps."""
