"""Decontamination: the items of benchmarks found in the text of a corpus, taken out of it, and written down."""
