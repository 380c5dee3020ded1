"""Weights of several models of one shape become one: a method a page."""
