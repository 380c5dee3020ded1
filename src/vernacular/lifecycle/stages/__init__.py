"""One file per stage: what it reads, what can be set, and the one function of a room that does it."""
