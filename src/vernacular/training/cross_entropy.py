"""Weighted cross-entropy that never holds the logits of more than a chunk of tokens.

Shapes: N tokens, D hidden, V vocabulary. The logits' gradient, `weight · (softmax - onehot)`, is known as soon as the
logits are, so the forward pass turns each chunk into gradients of hidden states and head, and forgets it. The z-loss
`z · logsumexp²` adds `2 · z · logsumexp · softmax` to it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_GPU_TILE = 64

Score = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]
"""Of logits, targets and weights, as `score_rows`: what each row comes to, and the gradient of its logits."""


class CrossEntropy(NamedTuple):
    """Weighted sums over tokens, float32 scalars.

    Attributes:
        loss: `weight · (-log p(target) + z_weight · logsumexp²)` in nats, differentiable.
        correct: weight of the targets that are the most probable token.
        squares: `weight · logsumexp²`; what the z-loss keeps small.
    """

    loss: Tensor
    correct: Tensor
    squares: Tensor


def chunked_cross_entropy(
    hidden_ND: Tensor,
    head_VD: Tensor,
    targets_N: Tensor,
    weights_N: Tensor,
    *,
    chunk_tokens: int,
    z_weight: float = 0.0,
    score: Score | None = None,
) -> CrossEntropy:
    """Cross-entropy of the targets and, with a weight, the z-loss that keeps the logits' normaliser near 1.

    Args:
        hidden_ND: hidden states after the final norm.
        head_VD: the output head; logits are `hidden · headᵀ`, computed in the precision of `hidden_ND`.
        targets_N: token ids, int64.
        weights_N: float32; tokens of weight 0 are not computed.
        chunk_tokens: tokens whose logits exist at one time.
        z_weight: factor of the squared logsumexp in the loss (PaLM, arXiv 2204.02311: 1e-4).
        score: what turns logits into gradients; `score_rows` unless given.
    """
    kept_M = weights_N.nonzero().squeeze(1)
    return CrossEntropy(
        *_ChunkedCrossEntropy.apply(
            hidden_ND[kept_M],
            head_VD,
            targets_N[kept_M],
            weights_N[kept_M],
            chunk_tokens,
            z_weight,
            score or score_rows,
        )
    )


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        targets_N: Tensor,
        weights_N: Tensor,
        chunk_tokens: int,
        z_weight: float,
        score: Score,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs_gradient = any(ctx.needs_input_grad[:2])
        vocabulary = len(head_VD)
        head = _aligned(head_VD.to(hidden_ND.dtype))
        hidden_gradient_ND = torch.empty_like(hidden_ND) if needs_gradient else None
        # Also where the weights are bfloat16: added up in that, each chunk's addition would be rounded.
        head_gradient_VD = head.new_zeros(head.shape, dtype=torch.float32) if needs_gradient else None
        loss = hidden_ND.new_zeros((), dtype=torch.float32)
        correct = hidden_ND.new_zeros((), dtype=torch.float32)
        squares = hidden_ND.new_zeros((), dtype=torch.float32)
        for start in range(0, len(targets_N), chunk_tokens):
            part = slice(start, start + chunk_tokens)
            hidden, targets, weights = hidden_ND[part], targets_N[part], weights_N[part]
            logits_CV = hidden @ head.T
            logits_CV[:, vocabulary:] = -torch.inf  # of no probability, so of no gradient
            wants_gradient = hidden_gradient_ND is not None
            nats_C, normaliser_C, is_best_C, gradient_CV = score(
                logits_CV, targets, weights, z_weight=z_weight, wants_gradient=wants_gradient
            )
            loss += (weights * nats_C).sum()
            correct += weights[is_best_C].sum()
            squares += (weights * normaliser_C.square()).sum()
            if hidden_gradient_ND is not None and head_gradient_VD is not None:
                gradient_CV = gradient_CV.to(head.dtype)
                hidden_gradient_ND[part] = gradient_CV @ head
                head_gradient_VD += gradient_CV.T @ hidden
        ctx.save_for_backward(hidden_gradient_ND, None if head_gradient_VD is None else head_gradient_VD[:vocabulary])
        ctx.mark_non_differentiable(correct, squares)
        return loss + z_weight * squares, correct, squares

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        hidden_gradient_ND, head_gradient_VD = ctx.saved_tensors
        scale = gradients[0]
        hidden_gradient_ND = (hidden_gradient_ND * scale).to(hidden_gradient_ND.dtype)
        return hidden_gradient_ND, head_gradient_VD * scale, None, None, None, None, None


def _aligned(head_VD: Tensor) -> Tensor:
    """The head with rows of zeros up to a whole number of a GPU's tiles.

    With Granite's 49,155 rows, a product and its gradients ran at 96 to 151 TFLOP/s on an H200, not at 700.
    """
    missing = -len(head_VD) % _GPU_TILE if head_VD.is_cuda else 0
    return functional.pad(head_VD, (0, 0, 0, missing)) if missing else head_VD


def score_rows(
    logits_CV: Tensor, targets_C: Tensor, weights_C: Tensor, *, z_weight: float, wants_gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As the kernels' `cross_entropy_rows`, the gradient beside the logits and in their precision."""
    dtype = logits_CV.dtype
    logits_CV = logits_CV.float()
    is_best_C = logits_CV.argmax(dim=1) == targets_C
    log_probabilities_CV = functional.log_softmax(logits_CV, dim=1)
    wanted_C = log_probabilities_CV.gather(1, targets_C[:, None]).squeeze(1)
    # logsumexp is what the softmax took away from each logit.
    normaliser_C = logits_CV.gather(1, targets_C[:, None]).squeeze(1) - wanted_C
    if wants_gradient:
        gradient_CV = log_probabilities_CV.exp_()
        if z_weight:
            gradient_CV *= (1 + 2 * z_weight * normaliser_C)[:, None]
        is_target_CV = torch.arange(gradient_CV.shape[1], device=targets_C.device) == targets_C[:, None]
        gradient_CV = (gradient_CV - is_target_CV.float()) * weights_C[:, None]
        return -wanted_C, normaliser_C, is_best_C, gradient_CV.to(dtype)
    return -wanted_C, normaliser_C, is_best_C, log_probabilities_CV


@cache
def compiled_score_rows() -> Score:
    """`score_rows` as one program of PyTorch's compiler: on a GPU it reads the logits twice, not ten times."""
    compiled: Score = torch.compile(score_rows)
    return compiled
