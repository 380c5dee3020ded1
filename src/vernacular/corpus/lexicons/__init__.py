"""Lexicons: which words a language has, from packages of dictionaries; none is shipped."""
