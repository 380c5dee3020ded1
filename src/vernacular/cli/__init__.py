"""The command line: one verb per file, no logic, nothing heavy imported before it is needed."""
