"""Damage on purpose: the ways in which text is spoilt on its way to a corpus, a file a family."""
