"""Tensors a block at a time, so that what is computed of them takes no memory that grows with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_BLOCK = 1 << 20
"""Numbers: a few MB in float32, which stay in a core's cache from one operation to the next."""


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same part of each tensor, flat; the tensors are contiguous and of one size."""
    flat = [tensor.view(-1) for tensor in tensors]
    for start in range(0, len(flat[0]), _BLOCK):
        yield tuple(tensor[start : start + _BLOCK] for tensor in flat)


def weighted_sum(tensors: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """`Σ factor · tensor`, float32, of tensors of one shape."""
    total = torch.zeros(tensors[0].shape, dtype=torch.float32)
    for total_N, *parts_N in blocks(total, *tensors):
        for part_N, factor in zip(parts_N, factors, strict=True):
            total_N.add_(part_N.float(), alpha=factor)
    return total
