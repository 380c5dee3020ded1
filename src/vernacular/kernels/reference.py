"""Pages of keys and values in plain PyTorch: for GPUs, and for `--kernels torch`.

The functions are those of `attention.py`; the pool's memory order is this module's own, and what reads it is
`inference.gathered_attention`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vernacular.kernels.page import PAGE_SIZE


def pools(
    number: int, num_pages: int, num_key_heads: int, width: int, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Memory for the keys, or the values, of several layers: [pages, PAGE_SIZE, K, C] each."""
    shape = (num_pages, PAGE_SIZE, num_key_heads, width)
    return [torch.zeros(shape, dtype=dtype, device=device) for _ in range(number)]


def write(
    k_pool: Tensor, v_pool: Tensor, k_NKC: Tensor, v_NKC: Tensor, slots_M: Tensor, written_M: Tensor | None = None
) -> None:
    """Put the keys and values of new tokens in their slots, page · PAGE_SIZE + place in the page."""
    if written_M is not None:
        k_NKC, v_NKC = k_NKC[written_M], v_NKC[written_M]
    k_pool.flatten(0, 1).index_copy_(0, slots_M, k_NKC)
    v_pool.flatten(0, 1).index_copy_(0, slots_M, v_NKC)
