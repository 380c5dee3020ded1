"""The same products and attention in plain PyTorch: for GPUs, for `--kernels torch`, and to test the C kernels by.

The functions are those of `attention.py`; the pool's memory order is this module's own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PAGE_SIZE = 32


def pool(
    num_pages: int, num_key_heads: int, width: int, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> Tensor:
    """Memory for the keys, or the values, of one layer: [pages, PAGE_SIZE, K, C]."""
    return torch.zeros(num_pages, PAGE_SIZE, num_key_heads, width, dtype=dtype, device=device)


def write(k_pool: Tensor, v_pool: Tensor, k_NKC: Tensor, v_NKC: Tensor, slots_N: Tensor) -> None:
    """Put the keys and values of new tokens in their slots, page · PAGE_SIZE + place in the page."""
    k_pool.flatten(0, 1).index_copy_(0, slots_N, k_NKC)
    v_pool.flatten(0, 1).index_copy_(0, slots_N, v_NKC)


def attend(
    q_NHC: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    page_table_SP: Tensor,
    sequence_of_token_N: Tensor,
    positions_N: Tensor,
    *,
    scale: float,
    window: int = 0,
    slopes_H: Tensor | None = None,
) -> Tensor:
    """What each token gathers, [N, H, C]; see `attention.attend`."""
    out_NHC = torch.empty_like(q_NHC)
    for sequence in sequence_of_token_N.unique().tolist():
        tokens_T = (sequence_of_token_N == sequence).nonzero()[:, 0]
        positions_T1 = positions_N[tokens_T, None].long()
        newest = int(positions_T1.max())
        oldest = max(0, int(positions_T1.min()) - window + 1) if window else 0
        first_page = oldest // PAGE_SIZE
        pages_P = page_table_SP[sequence, first_page : newest // PAGE_SIZE + 1].long()
        keys_S = torch.arange(first_page * PAGE_SIZE, newest + 1, device=q_NHC.device)
        k_KSC, v_KSC = (p[pages_P].flatten(0, 1)[: len(keys_S)].transpose(0, 1) for p in (k_pool, v_pool))
        visible_TS = keys_S <= positions_T1
        if window:
            visible_TS &= keys_S > positions_T1 - window
        bias = torch.zeros(visible_TS.shape, dtype=torch.float32, device=q_NHC.device)
        if slopes_H is not None:
            bias = slopes_H[:, None, None] * (keys_S - positions_T1)
        bias = bias.masked_fill(~visible_TS, -torch.inf).to(q_NHC.dtype)
        gathered_HTC = functional.scaled_dot_product_attention(
            q_NHC[tokens_T].transpose(0, 1)[None],
            k_KSC[None],
            v_KSC[None],
            attn_mask=bias if bias.dim() == 2 else bias[None],
            scale=scale,
            enable_gqa=True,
        )[0]
        out_NHC[tokens_T] = gathered_HTC.transpose(0, 1)
    return out_NHC
