"""Products and attention for inference: C on a CPU, PyTorch anywhere, with the same signatures."""
