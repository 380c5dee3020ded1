"""Weights and scores become a release: model card, plots, verification."""
