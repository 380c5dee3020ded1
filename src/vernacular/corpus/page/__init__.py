"""The page that shows a curated corpus: figures, plots, and documents to read."""
