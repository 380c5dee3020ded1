"""How weights change: which weights go together, and the rule of each."""
