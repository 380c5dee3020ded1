"""Spherical interpolation: along the arc between two tensors taken as vectors, not along its chord (Shoemake 1985)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vernacular.merging.blocks import blocks, weighted_sum

_PARALLEL = 0.9995
"""Cosine above which the arc is as good as its chord, and its formula divides by almost nothing."""


def slerp(first: Tensor, second: Tensor, position: float) -> Tensor:
    """`(sin((1-t)θ) · a + sin(tθ) · b) / sin θ`, θ the angle between a and b; float32.

    Tensors that point the same way, opposite ways or nowhere have no arc of their own: they are mixed along the chord.

    Args:
        first: a, at position 0.
        second: b, of the same shape, at position 1.
        position: t, from 0 to 1.
    """
    cosine = _cosine(first, second)
    if abs(cosine) > _PARALLEL:
        of_first, of_second = 1 - position, position
    else:
        angle = math.acos(cosine)
        of_first = math.sin((1 - position) * angle) / math.sin(angle)
        of_second = math.sin(position * angle) / math.sin(angle)
    return weighted_sum((first, second), (of_first, of_second))


def _cosine(first: Tensor, second: Tensor) -> float:
    """Of the angle between two tensors; 1 where one of them is nothing but zeros."""
    products = torch.zeros(3, dtype=torch.float64)
    for a, b in blocks(first, second):
        a, b = a.double(), b.double()
        products += torch.stack((a.dot(b), a.dot(a), b.dot(b)))
    product, of_first, of_second = products.tolist()
    lengths = math.sqrt(of_first) * math.sqrt(of_second)
    return max(-1.0, min(1.0, product / lengths)) if lengths else 1.0
