"""The pages that people look at. One file a page: what it shows; how is in its template."""
