"""The scores that the five reference cards print, cell by cell, as data."""
