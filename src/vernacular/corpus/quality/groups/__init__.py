"""The features, a file a group. Each has `measure(anatomy)`, which returns its features by name, float [D]."""
