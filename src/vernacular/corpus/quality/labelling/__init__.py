"""Labelling: a page on which one or two people grade documents by keyboard, and the file their verdicts lie in."""
