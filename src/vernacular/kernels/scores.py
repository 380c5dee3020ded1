"""What scores over the vocabulary say of the next token, on a CPU: one pass, whether they are written or not."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vernacular.foundation.errors import InternalError, MachineError
from vernacular.kernels import build
from vernacular.kernels.linear import Product


class Scored(NamedTuple):
    """What rows of scores over the vocabulary come to.

    Attributes:
        normalisers_R: float32, the logarithm of each row's sum of exponentials; NaN where one of its scores is NaN or
            ∞, or all are -∞.
        best_R: int64, its best token, the first of equals; -1 where the normaliser is NaN.
        scores_K: float32, the scores of the tokens that were asked for.
    """

    normalisers_R: Tensor
    best_R: Tensor
    scores_K: Tensor


def score_rows(logits_RV: Tensor) -> Scored:
    """Scores that are there, in float32 or bfloat16; none is asked for.

    A row's result depends on that row alone, and is the same bits for bfloat16 and for the same numbers in float32.
    """
    if logits_RV.dtype not in (torch.float32, torch.bfloat16) or logits_RV.dim() != 2:
        raise InternalError(f"rows of scores in float32 or bfloat16 were expected, not {logits_RV.dtype}")
    logits_RV = logits_RV.contiguous()
    num_rows, width = logits_RV.shape
    found = _room(num_rows, 0)
    failure = build.library().score_rows(
        logits_RV.dtype is torch.bfloat16,
        logits_RV.data_ptr(),
        found.normalisers_R.data_ptr(),
        found.best_R.data_ptr(),
        num_rows,
        width,
        torch.get_num_threads(),
    )
    return _checked(found, failure)


def score_product(
    head: Product, x_RD: Tensor, starts: Tensor | None = None, tokens_K: Tensor | None = None, *, scaling: float = 1.0
) -> Scored:
    """Scores `head(x) / scaling`, which are never written; what comes is the same bits as if they were.

    Args:
        head: weights of the vocabulary.
        x_RD: rows in the head's dtype.
        starts: int64 [R + 1], where each row's tokens begin in `tokens_K`; None where none are asked for.
        tokens_K: int64.
        scaling: what scores are divided by, in float32.

    Raises:
        InternalError: a token is not of the vocabulary, whose score nobody has.
        MachineError: there is no memory.
    """
    if tokens_K is not None and len(tokens_K):
        first, last = (int(bound) for bound in tokens_K.aminmax())
        if first < 0 or last >= head.out_features:
            raise InternalError(
                f"tokens {first} to {last} of a vocabulary of {head.out_features} tokens were asked for"
            )
    rows_RD, fixed = head.taken(x_RD)
    found = _room(len(rows_RD), 0 if tokens_K is None else len(tokens_K))
    if not len(rows_RD):
        return found
    failure = build.library().score_product(
        head.address,
        scaling,
        rows_RD.data_ptr(),
        rows_RD.stride(0),
        len(rows_RD),
        None if starts is None else starts.data_ptr(),
        None if tokens_K is None else tokens_K.data_ptr(),
        found.scores_K.data_ptr(),
        found.normalisers_R.data_ptr(),
        found.best_R.data_ptr(),
        None if fixed is None else fixed.data_ptr(),
        torch.get_num_threads(),
    )
    return _checked(found, failure)


def _room(num_rows: int, num_tokens: int) -> Scored:
    return Scored(torch.empty(num_rows), torch.empty(num_rows, dtype=torch.int64), torch.empty(num_tokens))


def _checked(found: Scored, failure: int) -> Scored:
    if failure:
        raise MachineError("no memory for scores over the vocabulary", fix="read fewer tokens at once")
    return found
