"""The library: every benchmark of the reference cards as data, its sets and its tasks in one file each."""
