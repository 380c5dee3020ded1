"""Tokens become weights: one loop, an objective a page, optimiser, schedule, checkpoints."""
