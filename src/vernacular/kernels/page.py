"""The size of a page of keys and values, which pages.h knows by the name PAGE. No tensors here."""

from __future__ import annotations

PAGE_SIZE = 32
"""Tokens in a page."""
