"""Benchmarks whose answers are programs: each is run in a sandbox against tests that it cannot see or touch."""
