"""Metrics: each a few lines of arithmetic on what a record holds."""
