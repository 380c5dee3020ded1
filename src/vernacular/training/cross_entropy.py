"""Weighted cross-entropy that never holds the logits of more than a chunk of tokens.

Shapes: N tokens, D hidden, V vocabulary. The logits' gradient, `weight · (softmax - onehot)`, is known as soon as the
logits are, so the forward pass turns each chunk into gradients of hidden states and head, and forgets it. The z-loss
`z · logsumexp²` adds `2 · z · logsumexp · softmax` to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


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
) -> CrossEntropy:
    """Cross-entropy of the targets and, with a weight, the z-loss that keeps the logits' normaliser near 1.

    Args:
        hidden_ND: hidden states after the final norm.
        head_VD: the output head; logits are `hidden · headᵀ`, computed in the precision of `hidden_ND`.
        targets_N: token ids, int64.
        weights_N: float32; tokens of weight 0 are not computed.
        chunk_tokens: tokens whose logits exist at one time.
        z_weight: factor of the squared logsumexp in the loss (PaLM, arXiv 2204.02311: 1e-4).
    """
    kept_M = weights_N.nonzero().squeeze(1)
    return CrossEntropy(
        *_ChunkedCrossEntropy.apply(
            hidden_ND[kept_M], head_VD, targets_N[kept_M], weights_N[kept_M], chunk_tokens, z_weight
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
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs_gradient = any(ctx.needs_input_grad[:2])
        head = head_VD.to(hidden_ND.dtype)
        hidden_gradient_ND = torch.empty_like(hidden_ND) if needs_gradient else None
        head_gradient_VD = torch.zeros_like(head_VD) if needs_gradient else None
        loss = hidden_ND.new_zeros((), dtype=torch.float32)
        correct = hidden_ND.new_zeros((), dtype=torch.float32)
        squares = hidden_ND.new_zeros((), dtype=torch.float32)
        for start in range(0, len(targets_N), chunk_tokens):
            part = slice(start, start + chunk_tokens)
            hidden, targets, weights = hidden_ND[part], targets_N[part], weights_N[part]
            logits_CV = (hidden @ head.T).float()
            correct += weights[logits_CV.argmax(dim=1) == targets].sum()
            log_probabilities_CV = functional.log_softmax(logits_CV, dim=1)
            wanted_C = log_probabilities_CV.gather(1, targets[:, None]).squeeze(1)
            loss -= (weights * wanted_C).sum()
            # logsumexp is what the softmax took away from each logit.
            normaliser_C = logits_CV.gather(1, targets[:, None]).squeeze(1) - wanted_C
            squares += (weights * normaliser_C.square()).sum()
            if hidden_gradient_ND is not None and head_gradient_VD is not None:
                gradient_CV = log_probabilities_CV.exp_()
                if z_weight:
                    gradient_CV *= (1 + 2 * z_weight * normaliser_C)[:, None]
                gradient_CV[torch.arange(len(targets), device=targets.device), targets] -= 1
                gradient_CV = (gradient_CV * weights[:, None]).to(head.dtype)
                hidden_gradient_ND[part] = gradient_CV @ head
                head_gradient_VD += gradient_CV.T @ hidden
        ctx.save_for_backward(hidden_gradient_ND, head_gradient_VD)
        ctx.mark_non_differentiable(correct, squares)
        return loss + z_weight * squares, correct, squares

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        hidden_gradient_ND, head_gradient_VD = ctx.saved_tensors
        scale = gradients[0]
        hidden_gradient_ND = (hidden_gradient_ND * scale).to(hidden_gradient_ND.dtype)
        return hidden_gradient_ND, head_gradient_VD * scale, None, None, None, None
