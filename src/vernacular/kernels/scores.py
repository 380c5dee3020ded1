"""What rows of logits say of the next token, on a CPU: one pass, where PyTorch copies the vocabulary several times."""

from __future__ import annotations

import torch
from torch import Tensor

from vernacular.foundation.errors import InternalError
from vernacular.kernels import build


def score_rows(logits_RV: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of each row's sum of exponentials, float32 [R], and its best token, int64 [R].

    Of equal scores the first is the best; -1 where a row holds what is not a number. A row's result depends on that row
    alone, and is the same bits for bfloat16 and for the same numbers in float32.
    """
    if logits_RV.dtype not in (torch.float32, torch.bfloat16) or logits_RV.dim() != 2:
        raise InternalError(f"rows of scores in float32 or bfloat16 were expected, not {logits_RV.dtype}")
    logits_RV = logits_RV.contiguous()
    num_rows, width = logits_RV.shape
    normalisers_R = torch.empty(num_rows)
    best_R = torch.empty(num_rows, dtype=torch.int64)
    build.library().score_rows(
        logits_RV.dtype is torch.bfloat16,
        logits_RV.data_ptr(),
        normalisers_R.data_ptr(),
        best_R.data_ptr(),
        num_rows,
        width,
        torch.get_num_threads(),
    )
    return normalisers_R, best_R
