"""Raw text becomes documents: read, normalise, identify language, filter, deduplicate, hold out. No torch here."""
