"""The weighted mean of weights: model soups (arXiv 2203.05482), and averages of one run's checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """`Σ share · w / Σ share`, float32.

    Args:
        tensors: one of each model, of one shape.
        shares: how much each counts.
    """
    total = sum(shares)
    merged = torch.zeros_like(tensors[0], dtype=torch.float32)
    for tensor, share in zip(tensors, shares, strict=True):
        merged.add_(tensor.float(), alpha=share / total)
    return merged
