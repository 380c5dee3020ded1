"""Tensors a block at a time, so that what is computed of them takes no memory that grows with them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_BLOCK = 1 << 20
"""Numbers: a few MB in float32, which stay in a core's cache from one operation to the next."""


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same part of each tensor, flat; the tensors are contiguous and of one size."""
    flat = [tensor.view(-1) for tensor in tensors]
    for start in range(0, len(flat[0]), _BLOCK):
        yield tuple(tensor[start : start + _BLOCK] for tensor in flat)
