"""A layer of gated experts for all its tokens, forward and backward, on a CPU.

Shapes: N tokens, K experts of each, M rows, those of one expert together, E experts, D width, I inner width.

No token is dropped. An expert's rows are multiplied in place in one buffer for all experts; a token's gate enters at
the inner width, so that its gradient needs no answer kept.

An expert has a whole number of `_ROWS` rows: the library compiles a product anew for each number of rows, which at
small widths takes many times as long as the product. The rows beyond its tokens are the first token's with a gate of 0,
so that nothing comes of them. M is N · K and these.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vernacular.kernels.training_rows import is_bfloat16, open_gate, open_gate_gradient, product_dtype, sum_rows

_ROWS = 32


def experts(x_ND: Tensor, input_EOD: Tensor, output_EDI: Tensor, chosen_NK: Tensor, gates_NK: Tensor) -> Tensor:
    """`Σ gate · out · (silu(a) · b)` over each token's experts, where [a; b] = in · x; [N, D] in the products' dtype.

    Args:
        x_ND: tokens.
        input_EOD: [E, 2·I, D], the first I rows of each expert for a.
        output_EDI: [E, D, I].
        chosen_NK: each token's experts, int64.
        gates_NK: their weights.
    """
    dtype = product_dtype(x_ND)
    answer: Tensor = _Experts.apply(x_ND.to(dtype), input_EOD.to(dtype), output_EDI.to(dtype), chosen_NK, gates_NK)
    return answer


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, input_EOD: Tensor, output_EDI: Tensor, chosen_NK: Tensor, gates_NK: Tensor
    ) -> Tensor:
        width, inner = output_EDI.shape[1:]
        places_NK, counts = _places(chosen_NK, len(input_EOD))
        tokens_M = torch.zeros(sum(counts), dtype=torch.int64)
        tokens_M[places_NK] = torch.arange(len(x_ND))[:, None].expand_as(places_NK)
        by_M = torch.zeros(len(tokens_M))
        by_M[places_NK] = gates_NK.float()
        rows_MD = x_ND.index_select(0, tokens_M)
        is_bfloat16(rows_MD, input_EOD, output_EDI)
        opened_MO = x_ND.new_empty(len(tokens_M), 2 * inner)
        _multiply(rows_MD, input_EOD.transpose(1, 2), counts, opened_MO)
        hidden_MI = x_ND.new_empty(len(tokens_M), inner)
        open_gate(opened_MO[:, :inner], opened_MO[:, inner:], by_M, hidden_MI)
        answers_MD = rows_MD if width == rows_MD.shape[1] else x_ND.new_empty(len(tokens_M), width)
        _multiply(hidden_MI, output_EDI.transpose(1, 2), counts, answers_MD)
        ctx.save_for_backward(x_ND, input_EOD, output_EDI, opened_MO, hidden_MI, by_M, tokens_M, places_NK)
        ctx.counts, ctx.gate_dtype = counts, gates_NK.dtype
        return sum_rows(answers_MD, places_NK)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x_ND, input_EOD, output_EDI, opened_MO, hidden_MI, by_M, tokens_M, places_NK = ctx.saved_tensors
        inner, counts = hidden_MI.shape[1], ctx.counts
        change_MD = gradients[0].contiguous().index_select(0, tokens_M)
        doutput_EDI = _outer_products(change_MD, hidden_MI, counts, output_EDI)
        dhidden_MI = torch.empty_like(hidden_MI)
        _multiply(change_MD, output_EDI, counts, dhidden_MI)
        dopened_MO, dby_M = torch.empty_like(opened_MO), torch.empty_like(by_M)
        halves = (opened_MO[:, :inner], opened_MO[:, inner:])
        dhalves = (dopened_MO[:, :inner], dopened_MO[:, inner:])
        open_gate_gradient(*halves, by_M, dhidden_MI, *dhalves, dby_M)
        rows_MD = torch.index_select(x_ND, 0, tokens_M, out=change_MD)
        dinput_EOD = _outer_products(dopened_MO, rows_MD, counts, input_EOD)
        _multiply(dopened_MO, input_EOD, counts, rows_MD)
        return sum_rows(rows_MD, places_NK), dinput_EOD, doutput_EDI, None, dby_M[places_NK].to(ctx.gate_dtype)


def _places(chosen_NK: Tensor, num_experts: int) -> tuple[Tensor, list[int]]:
    """Where the row of each token and expert of its stands, by expert, then token; and the rows of each expert."""
    order = chosen_NK.flatten().argsort(stable=True)
    counts_E = chosen_NK.flatten().bincount(minlength=num_experts)
    rows_E = (counts_E + _ROWS - 1) // _ROWS * _ROWS
    before_E = (rows_E - counts_E).cumsum(0) - (rows_E - counts_E)  # rows without a token, of the experts before
    places = torch.arange(len(order)) + before_E.repeat_interleave(counts_E)
    return torch.empty_like(order).scatter_(0, order, places).view_as(chosen_NK), rows_E.tolist()


def _multiply(x_MI: Tensor, weights_EIO: Tensor, counts: list[int], out_MO: Tensor) -> None:
    """Consecutive groups of rows, each times its own matrix."""
    for x, weight, out in zip(x_MI.split(counts), weights_EIO, out_MO.split(counts), strict=True):
        torch.mm(x, weight, out=out)


def _outer_products(x_MO: Tensor, y_MI: Tensor, counts: list[int], like_EOI: Tensor) -> Tensor:
    """Each group's `xᵀ · y`; zeros for a group without rows."""
    out_EOI = torch.empty_like(like_EOI)
    for x, y, out in zip(x_MO.split(counts), y_MI.split(counts), out_EOI, strict=True):
        torch.mm(x.t(), y, out=out)
    return out_EOI
