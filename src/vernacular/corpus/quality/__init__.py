"""Quality: 93 features of a document, a classifier over them, and where its labels come from."""
