"""A whole block of a decoder in one call, on a CPU.

Shapes: N tokens of many sequences side by side, M places where keys and values go, S sequences, P pages of the longest
one, D width of the residual stream, H query heads, C head width.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from vernacular.foundation.errors import InternalError, MachineError
from vernacular.kernels import attention, build
from vernacular.kernels.linear import MatrixArgument
from vernacular.kernels.rows import NormArgument

_WORD, _POINTER, _REAL = ctypes.c_long, ctypes.c_void_p, ctypes.c_float


class BlockArgument(ctypes.Structure):
    """`struct block` of block.c. Widths are even; it holds addresses, so what they point to must outlive it."""

    _fields_ = (
        *((name, MatrixArgument) for name in ("project", "output", "gates", "down")),
        *((name, NormArgument) for name in ("attention_norm", "feed_forward_norm")),
        *((name, _WORD) for name in ("width", "inner", "num_heads", "num_key_heads", "head_width")),
        ("residual", _REAL),
    )


class PassArgument(ctypes.Structure):
    """`struct pass` of block.c."""

    _fields_ = (
        ("num_tokens", _WORD),
        *((name, _POINTER) for name in ("cosine", "sine", "slots", "written")),
        *((name, _WORD) for name in ("num_written", "page_bytes", "max_pages")),
        *((name, _POINTER) for name in ("page_table", "sequences", "positions")),
        *(("scale", _REAL), ("window", _WORD), ("slopes", _POINTER)),
    )

    @classmethod
    def of(
        cls,
        pool: Tensor,
        page_table_SP: Tensor,
        sequences_N: Tensor,
        positions_N: Tensor,
        slots_M: Tensor,
        written_M: Tensor | None,
        angles: tuple[Tensor, Tensor] | None,
        *,
        scale: float,
        window: int,
        slopes_H: Tensor | None,
    ) -> PassArgument:
        """Tables as `attention.write` and `attention.attend` take them; they must outlive what is returned.

        Args:
            pool: of any layer.
            page_table_SP: int32.
            sequences_N: int32.
            positions_N: int32.
            slots_M: int64.
            written_M: int64, or None.
            angles: cosine and sine, [1, 1, N, C] in the activations' dtype; None without rotation.
            scale: what scores are multiplied by.
            window: how many positions a token sees, itself included; 0 for all.
            slopes_H: float32, ALiBi; None for none.
        """
        tables_fit = page_table_SP.dtype == sequences_N.dtype == positions_N.dtype == torch.int32
        if not tables_fit or slots_M.dtype is not torch.int64:
            raise InternalError(f"tables are int32 and slots int64; given: {page_table_SP.dtype}, {slots_M.dtype}")
        cosine, sine = (None, None) if angles is None else (part.data_ptr() for part in angles)
        return cls(
            len(positions_N),
            cosine,
            sine,
            slots_M.data_ptr(),
            None if written_M is None else written_M.data_ptr(),
            len(slots_M),
            attention.page_bytes(pool),
            page_table_SP.shape[1],
            page_table_SP.data_ptr(),
            sequences_N.data_ptr(),
            positions_N.data_ptr(),
            scale,
            window,
            None if slopes_H is None else slopes_H.data_ptr(),
        )


def run_block(block: BlockArgument, tokens: PassArgument, k_pool: Tensor, v_pool: Tensor, x_ND: Tensor) -> None:
    """Turn the residual stream `x_ND` into what the block makes of it, in place.

    Args:
        block: its weights.
        tokens: where the tokens stand.
        k_pool: keys of the layer.
        v_pool: values of the layer.
        x_ND: in the pools' dtype, without gaps.

    Raises:
        InternalError: a page that a token can see is missing from the table, or the types differ.
        MachineError: there is no memory.
    """
    if x_ND.dtype is not k_pool.dtype or not x_ND.is_contiguous():
        raise InternalError(f"rows of {k_pool.dtype} without gaps were expected, not {x_ND.dtype}")
    failure = build.library().block(
        ctypes.addressof(block),
        ctypes.addressof(tokens),
        k_pool.data_ptr(),
        v_pool.data_ptr(),
        x_ND.data_ptr(),
        torch.get_num_threads(),
    )
    if failure == 1:
        raise InternalError("attention needs a page that is not in the page table")
    if failure:
        raise MachineError("no memory for the work of a block", fix="read fewer tokens at once")
