"""Products and attention in C for a CPU, compiled where they run; PyTorch anywhere, with the same signatures."""
