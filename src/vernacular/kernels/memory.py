"""Memory in huge pages, for what is read from end to end at every token: weights, keys and values.

A processor finds the place of a 4 KiB page anew every 4 KiB; with pages of 2 MiB, where Linux gives them on request,
one core reads float32 weights half as fast again. Small tensors share a mapping, so that they profit as well.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

_CHUNK_BYTES = 64 << 20
_HUGE_BYTES = 2 << 20
_LINE_BYTES = 64

_free = torch.empty(0, dtype=torch.uint8)


def take(num_bytes: int) -> Tensor:
    """Uninitialised bytes, aligned to a cache line; returned to the system when all that share a mapping are gone."""
    global _free
    rounded = -(-num_bytes // _LINE_BYTES) * _LINE_BYTES
    if rounded > len(_free):
        mapped = _map(max(rounded, _CHUNK_BYTES))
        if len(mapped) - rounded < len(_free):  # a large tensor of its own leaves the shared mapping as it is
            return mapped[:num_bytes]
        _free = mapped
    taken, _free = _free[:num_bytes], _free[rounded:]
    return taken


def _map(num_bytes: int) -> Tensor:
    """A mapping of its own; pages of it exist only once they are written."""
    rounded = -(-num_bytes // _HUGE_BYTES) * _HUGE_BYTES
    mapping = mmap.mmap(-1, rounded, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(mapping, dtype=torch.uint8)
