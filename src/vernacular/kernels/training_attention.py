"""Causal attention of whole rows of tokens, forward and backward, on a CPU.

Shapes: B rows, T tokens, H query heads, K key/value heads, C head width.

Only blocks of keys that some query sees are computed; nothing of size T × T is ever held: the backward pass computes
the scores again from the logarithm of their sum. Softmax, sums and gradients' sums are in float32; products of bfloat16
inputs take weights rounded to bfloat16, as PyTorch's do. The same bits come out on any number of threads.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from vernacular.foundation.errors import InternalError, MachineError, UserError
from vernacular.kernels import build

MAX_WIDTH = 256
"""The widest head."""
_OTHERWISE = "set kernels: torch"


def first_visible(documents_BT: Tensor, window: int | None = None) -> Tensor:
    """The first token that each one sees, int32 [B, T]: its document's first, or the window's.

    Args:
        documents_BT: a number per token, the same throughout a document; documents stand one after the other.
        window: tokens that one sees, itself included; None for all of its document.
    """
    num_tokens = documents_BT.shape[1]
    places_T = torch.arange(num_tokens, device=documents_BT.device)
    begins_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    first_BT = torch.where(begins_BT, places_T, 0).cummax(dim=1).values
    if window is not None:
        first_BT = first_BT.maximum(places_T - (window - 1))
    return first_BT.int().contiguous()


def attend(
    q_BTHC: Tensor, k_BTKC: Tensor, v_BTKC: Tensor, first_BT: Tensor, *, scale: float, slopes_H: Tensor | None = None
) -> Tensor:
    """What each token gathers from the tokens `first` … itself of its row, [B, T, H, C]; differentiable.

    Args:
        q_BTHC: float32 or bfloat16; query head h reads key head h // (H / K).
        k_BTKC: keys of the same dtype.
        v_BTKC: values of the same dtype.
        first_BT: int32, from `first_visible`.
        scale: what scores are multiplied by.
        slopes_H: float32, ALiBi: slope · (key's place - query's place) is added to the score; None for none.

    Raises:
        UserError: a head's width or the dtype is none that the kernels take.
    """
    heads, width = q_BTHC.shape[2:]
    if width > MAX_WIDTH or q_BTHC.dtype not in (torch.float32, torch.bfloat16):
        raise UserError(
            f"the CPU kernels attend over heads of up to {MAX_WIDTH} numbers in float32 or bfloat16; these have "
            f"{width} in {q_BTHC.dtype}",
            where="kernels",
            fix=_OTHERWISE,
        )
    if width % 2 and q_BTHC.dtype is torch.bfloat16:
        raise UserError(
            f"the CPU kernels attend over heads of even width in bfloat16; these have {width} numbers",
            where="kernels",
            fix=f"set precision: float32, or {_OTHERWISE}",
        )
    same = q_BTHC.dtype is k_BTKC.dtype is v_BTKC.dtype and k_BTKC.shape == v_BTKC.shape
    if not same or heads % k_BTKC.shape[2] or first_BT.dtype is not torch.int32 or first_BT.shape != q_BTHC.shape[:2]:
        raise InternalError(
            f"queries {list(q_BTHC.shape)} {q_BTHC.dtype}, keys {list(k_BTKC.shape)} {k_BTKC.dtype}, "
            f"values {list(v_BTKC.shape)} {v_BTKC.dtype}, first {list(first_BT.shape)} {first_BT.dtype}"
        )
    gathered: Tensor = _Attention.apply(q_BTHC, k_BTKC, v_BTKC, first_BT, slopes_H, scale)
    return gathered


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, first_BT: Tensor, slopes_H: Tensor | None, scale: float
    ) -> Tensor:
        q, k, v = (_heads_together(x) for x in (q, k, v))
        rows, tokens, heads, width = q.shape
        out_BTHC = q.new_empty((rows, tokens, heads, width))
        norms_BHT = q.new_empty((rows, heads, tokens), dtype=torch.float32)
        failure = build.library().training_attention(
            *_operands(q, k, v, first_BT, slopes_H, scale),
            out_BTHC.data_ptr(),
            norms_BHT.data_ptr(),
            torch.get_num_threads(),
        )
        _check(failure)
        ctx.save_for_backward(q, k, v, first_BT, slopes_H, out_BTHC, norms_BHT)
        ctx.scale = scale
        return out_BTHC

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        q, k, v, first_BT, slopes_H, out_BTHC, norms_BHT = ctx.saved_tensors
        gradient_BTHC = gradients[0].contiguous()
        changes = tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        failure = build.library().training_attention_gradient(
            *_operands(q, k, v, first_BT, slopes_H, ctx.scale),
            out_BTHC.data_ptr(),
            gradient_BTHC.data_ptr(),
            norms_BHT.data_ptr(),
            *(change.data_ptr() for change in changes),
            torch.get_num_threads(),
        )
        _check(failure)
        return (*changes, None, None, None)


def _operands(
    q: Tensor, k: Tensor, v: Tensor, first_BT: Tensor, slopes_H: Tensor | None, scale: float
) -> tuple[Any, ...]:
    """The kernels' first arguments."""
    rows, tokens, heads, width = q.shape
    strides = [stride for x in (q, k, v) for stride in x.stride()[:2]]
    return (
        q.dtype is torch.bfloat16,
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        (ctypes.c_long * len(strides))(*strides),
        first_BT.data_ptr(),
        None if slopes_H is None else slopes_H.data_ptr(),
        rows,
        tokens,
        heads,
        k.shape[2],
        width,
        scale,
    )


def _heads_together(x_BTHC: Tensor) -> Tensor:
    """`x`, copied where the heads of a token do not follow one another."""
    return x_BTHC if x_BTHC.stride(3) == 1 and x_BTHC.stride(2) == x_BTHC.shape[3] else x_BTHC.contiguous()


def _check(failure: int) -> None:
    if failure:
        raise MachineError("no memory for attention's work", fix="lower sequence_length or micro_batch_tokens")
