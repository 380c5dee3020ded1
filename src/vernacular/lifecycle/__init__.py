"""The recipe, its stages, and the runner that turns a recipe into artifacts."""
