"""Normalisation of each token's vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RmsNorm(nn.Module):
    """`x / sqrt(mean(x²) + ε) · weight`, the mean in float32 (arXiv 1910.07467)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise each token's vector."""
        return functional.rms_norm(x_BTD, self.weight.shape, self.weight, self.epsilon)


class LayerNorm(nn.Module):
    """`(x - mean x) / sqrt(var x + ε) · weight`, without a bias (arXiv 1607.06450)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise each token's vector."""
        return functional.layer_norm(x_BTD, self.weight.shape, self.weight, None, self.epsilon)


NORMS = {"rms": RmsNorm, "layer": LayerNorm}
