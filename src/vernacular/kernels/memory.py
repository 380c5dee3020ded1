"""Memory in huge pages, for what is read from end to end at every token: weights, keys and values.

A processor finds the place of a 4 KiB page anew every 4 KiB; with pages of 2 MiB, where Linux gives them on request,
one core reads float32 weights half as fast again. Small tensors share a mapping, so that they profit as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vernacular.kernels import reserve

_CHUNK_BYTES = 64 << 20
_LINE_BYTES = 64

_free = torch.empty(0, dtype=torch.uint8)


def take(num_bytes: int) -> Tensor:
    """Uninitialised bytes, aligned to a cache line; returned to the system when all that share a mapping are gone."""
    global _free
    if (cleared := reserve.claim()) is not None:
        _free = torch.frombuffer(cleared, dtype=torch.uint8)
    rounded = -(-num_bytes // _LINE_BYTES) * _LINE_BYTES
    if rounded > len(_free):
        mapped = torch.frombuffer(reserve.map_memory(max(rounded, _CHUNK_BYTES)), dtype=torch.uint8)
        if len(mapped) - rounded < len(_free):  # a large tensor of its own leaves the shared mapping as it is
            return mapped[:num_bytes]
        _free = mapped
    taken, _free = _free[:num_bytes], _free[rounded:]
    return taken
