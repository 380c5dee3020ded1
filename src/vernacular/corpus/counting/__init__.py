"""Counting what stands in texts, in C: one pass over each text of a batch."""
