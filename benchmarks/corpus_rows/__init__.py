"""The rows of benchmarks/corpus.py: one job of the corpus room each, beside its peer."""
