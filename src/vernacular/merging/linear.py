"""The weighted mean of weights: model soups (arXiv 2203.05482), and averages of one run's checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vernacular.merging.blocks import weighted_sum


def mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """`Σ share · w / Σ share`, float32.

    Args:
        tensors: one of each model, of one shape.
        shares: how much each counts.
    """
    total = sum(shares)
    return weighted_sum(tensors, [share / total for share in shares])
