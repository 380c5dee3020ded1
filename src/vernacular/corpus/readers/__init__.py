"""Readers: one file format each, all yielding records with their place in the file."""
