"""Suites: the benchmarks of each reference card, and the rule by which the card makes one number of them."""
