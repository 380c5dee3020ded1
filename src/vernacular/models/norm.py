"""Normalisation of each token's vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Normalise = Callable[[Tensor, Tensor, float], Tensor]
"""A norm's arithmetic: of x, the weight and epsilon."""


def rms_norm(x_BTD: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """`x / sqrt(mean(x²) + ε) · weight`."""
    return functional.rms_norm(x_BTD, weight_D.shape, weight_D, epsilon)


def layer_norm(x_BTD: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """`(x - mean x) / sqrt(var x + ε) · weight`."""
    return functional.layer_norm(x_BTD, weight_D.shape, weight_D, None, epsilon)


class RmsNorm(nn.Module):
    """`x / sqrt(mean(x²) + ε) · weight`, the mean in float32 (arXiv 1910.07467)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon
        self.normalise: Normalise = rms_norm

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise each token's vector."""
        return self.normalise(x_BTD, self.weight, self.epsilon)


class LayerNorm(nn.Module):
    """`(x - mean x) / sqrt(var x + ε) · weight`, without a bias (arXiv 1607.06450)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon
        self.normalise: Normalise = layer_norm

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise each token's vector."""
        return self.normalise(x_BTD, self.weight, self.epsilon)


NORMS = {"rms": RmsNorm, "layer": LayerNorm}
