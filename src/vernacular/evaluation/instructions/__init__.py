"""Instructions that a program can check (IFEval): what each asks, by rules and by languages that are data."""
