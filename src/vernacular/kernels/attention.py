"""Attention over a paged cache of keys and values, on a CPU.

Shapes: N tokens of many sequences side by side, H query heads, K key/value heads, C head width, S sequences.

A token's result depends on its own sequence up to its own position and on nothing else: not on the tokens in the same
call, not on how its prompt was cut, not on where its pages lie. It is the same bits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vernacular.foundation.errors import InternalError, UserError
from vernacular.kernels import build, memory
from vernacular.kernels.page import PAGE_SIZE

MAX_WIDTH = 256
"""The widest head."""
_LANES = 16


def pools(
    number: int, num_pages: int, num_key_heads: int, width: int, dtype: torch.dtype, *, is_lasting: bool = True
) -> list[Tensor]:
    """Memory for the keys, or the values, of several layers: [pages, K, numbers of a page] each, in the kernels' order.

    A page of each lies beside that of the others, so that few tokens touch few pages of the machine's. What does not
    last is taken from the memory that the process keeps: what the system gives, it clears first.
    """
    if width > MAX_WIDTH or dtype not in (torch.float32, torch.bfloat16):
        raise UserError(
            f"the CPU kernels attend over heads of up to {MAX_WIDTH} numbers in float32 or bfloat16; "
            f"these have {width} in {dtype}",
            fix="choose PyTorch's own kernels with `--kernels torch`",
        )
    shape = (num_pages, number, num_key_heads, PAGE_SIZE * (-(-width // _LANES) * _LANES))
    if not is_lasting:
        return list(torch.empty(shape, dtype=dtype).unbind(1))
    return list(memory.take(math.prod(shape) * dtype.itemsize).view(dtype).view(shape).unbind(1))


def write(
    k_pool: Tensor, v_pool: Tensor, k_NKC: Tensor, v_NKC: Tensor, slots_M: Tensor, written_M: Tensor | None = None
) -> None:
    """Put the keys and values of new tokens in their slots.

    Args:
        k_pool: keys of the layer, from `pools`.
        v_pool: values of the layer, from `pools`.
        k_NKC: keys in the pool's dtype; the heads of a token side by side, tokens any distance apart.
        v_NKC: values, alike.
        slots_M: int64; page · PAGE_SIZE + place in the page. The tokens of a page come in order, its first before or
            with the others: the first clears what the page held.
        written_M: int64, whose keys and values go there; None where M is N and each token's go to one place.
    """
    num_key_heads, width = k_NKC.shape[1:]
    k_NKC, v_NKC = _heads_together(k_NKC), _heads_together(v_NKC)
    if not k_NKC.dtype == v_NKC.dtype == k_pool.dtype or slots_M.dtype is not torch.int64:
        raise InternalError(f"keys {k_NKC.dtype}, values {v_NKC.dtype}, pool {k_pool.dtype}, slots {slots_M.dtype}")
    build.library().write_pages(
        k_pool.dtype is torch.bfloat16,
        k_NKC.data_ptr(),
        k_NKC.stride(0),
        v_NKC.data_ptr(),
        v_NKC.stride(0),
        k_pool.data_ptr(),
        v_pool.data_ptr(),
        page_bytes(k_pool),
        slots_M.data_ptr(),
        None if written_M is None else written_M.data_ptr(),
        len(slots_M),
        num_key_heads,
        width,
        torch.get_num_threads(),
    )


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
    """What each token gathers from the keys 0 … its position of its sequence, [N, H, C] in q's dtype.

    Args:
        q_NHC: queries in the pool's dtype; query head h reads key head h // (H / K). Tokens of a sequence that are
            computed together stand side by side.
        k_pool: keys of the layer, those of these tokens written before.
        v_pool: values of the layer.
        page_table_SP: int32; page p of a sequence holds its positions 32·p to 32·p + 31. Entries that no token of the
            call can see are not read.
        sequence_of_token_N: int32, the row of each token's sequence in the table.
        positions_N: int32, each token's position in its sequence.
        scale: what scores are multiplied by.
        window: how many positions a token sees, itself included; 0 for all.
        slopes_H: float32, ALiBi: slope · (key position - position) is added to the score; None for none.

    Raises:
        InternalError: a page that a token can see is missing from the table, or a table has the wrong type.
    """
    num_tokens, num_heads, width = q_NHC.shape
    q_NHC = _heads_together(q_NHC)
    tables_fit = page_table_SP.dtype == sequence_of_token_N.dtype == positions_N.dtype == torch.int32
    if not tables_fit or q_NHC.dtype is not k_pool.dtype:
        raise InternalError(f"tables are int32 and queries {k_pool.dtype}; given: {page_table_SP.dtype}, {q_NHC.dtype}")
    out_NHC = torch.empty((num_tokens, num_heads, width), dtype=q_NHC.dtype)
    failure = build.library().attend(
        k_pool.dtype is torch.bfloat16,
        q_NHC.data_ptr(),
        q_NHC.stride(0),
        k_pool.data_ptr(),
        v_pool.data_ptr(),
        page_bytes(k_pool),
        page_table_SP.data_ptr(),
        page_table_SP.shape[1],
        sequence_of_token_N.data_ptr(),
        positions_N.data_ptr(),
        num_tokens,
        num_heads,
        k_pool.shape[1],
        width,
        scale,
        window,
        None if slopes_H is None else slopes_H.data_ptr(),
        out_NHC.data_ptr(),
        torch.get_num_threads(),
    )
    if failure:
        raise InternalError("attention needs a page that is not in the page table" if failure == 1 else "no memory")
    return out_NHC


def page_bytes(pool: Tensor) -> int:
    """From one page to the next: of the keys and of the values alike."""
    return pool.stride(0) * pool.element_size()


def _heads_together(x_NHC: Tensor) -> Tensor:
    """`x`, copied where the heads of a token do not follow one another."""
    return x_NHC if x_NHC.stride(2) == 1 and x_NHC.stride(1) == x_NHC.shape[2] else x_NHC.contiguous()
