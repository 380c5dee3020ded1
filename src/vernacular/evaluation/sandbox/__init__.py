"""A sandbox for code that nobody has read: no network, no files, no time, no room but what it is given."""
