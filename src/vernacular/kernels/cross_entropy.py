"""Cross-entropy of rows of logits and, in their place, its gradient, on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from vernacular.kernels import build
from vernacular.kernels.training_rows import is_bfloat16


def cross_entropy_rows(
    logits_CV: Tensor, targets_C: Tensor, weights_C: Tensor, *, z_weight: float, wants_gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Turn logits into what training needs of them.

    Returns each row's `-log p(target)` and its logsumexp, float32; whether its target has the best score, bool; and the
    logits, which with `wants_gradient` have become `weight · (softmax · (1 + 2 · z_weight · logsumexp) - onehot)`.

    Args:
        logits_CV: float32 or bfloat16, without gaps; overwritten.
        targets_C: int64.
        weights_C: float32.
        z_weight: factor of the squared logsumexp in the loss.
        wants_gradient: whether the logits become their gradient.
    """
    rows, width = logits_CV.shape
    nats_C, normalisers_C = torch.empty(2, rows)
    best_C = torch.empty(rows, dtype=torch.int32)
    build.library().cross_entropy(
        is_bfloat16(logits_CV),
        wants_gradient,
        *(tensor.data_ptr() for tensor in (logits_CV, targets_C.contiguous(), weights_C.contiguous())),
        z_weight,
        *(tensor.data_ptr() for tensor in (nats_C, normalisers_C, best_C)),
        rows,
        width,
        torch.get_num_threads(),
    )
    return nats_C, normalisers_C, best_C.bool(), logits_CV
