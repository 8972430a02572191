"""Bar files: read, extended, replaced; complete at every moment. Knows nothing of gaps."""
