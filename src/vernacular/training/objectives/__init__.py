"""What is learned: one page per objective."""
