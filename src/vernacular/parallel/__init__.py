"""Spreads a decoder over devices, from outside the model, in one documented order (`apply`)."""
