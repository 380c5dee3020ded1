"""Weighted cross-entropy that never holds the logits of more than a chunk of tokens.

Shapes: N tokens, D hidden, V vocabulary. The logits' gradient, `weight · (softmax - onehot)`, is known as soon as the
logits are, so the forward pass turns each chunk into gradients of hidden states and head, and forgets it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def chunked_cross_entropy(
    hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_N: Tensor, *, chunk_tokens: int
) -> tuple[Tensor, Tensor]:
    """Sum of `weight · -log p(target)` in nats, and the weighted number of tokens whose target is the most probable.

    Args:
        hidden_ND: hidden states after the final norm.
        head_VD: the output head; logits are `hidden · headᵀ`, computed in the precision of `hidden_ND`.
        targets_N: token ids, int64.
        weights_N: float32; tokens of weight 0 are not computed.
        chunk_tokens: tokens whose logits exist at one time.

    Returns:
        The loss (differentiable) and the correct weight (not), both float32 scalars.
    """
    kept_M = weights_N.nonzero().squeeze(1)
    loss, correct = _ChunkedCrossEntropy.apply(
        hidden_ND[kept_M], head_VD, targets_N[kept_M], weights_N[kept_M], chunk_tokens
    )
    return loss, correct


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_N: Tensor, chunk_tokens: int
    ) -> tuple[Tensor, Tensor]:
        needs_gradient = any(ctx.needs_input_grad[:2])
        head = head_VD.to(hidden_ND.dtype)
        hidden_gradient_ND = torch.empty_like(hidden_ND) if needs_gradient else None
        head_gradient_VD = torch.zeros_like(head_VD) if needs_gradient else None
        loss = hidden_ND.new_zeros((), dtype=torch.float32)
        correct = hidden_ND.new_zeros((), dtype=torch.float32)
        for start in range(0, len(targets_N), chunk_tokens):
            part = slice(start, start + chunk_tokens)
            hidden, targets, weights = hidden_ND[part], targets_N[part], weights_N[part]
            logits_CV = (hidden @ head.T).float()
            correct += weights[logits_CV.argmax(dim=1) == targets].sum()
            log_probabilities_CV = functional.log_softmax(logits_CV, dim=1)
            loss -= (weights * log_probabilities_CV.gather(1, targets[:, None]).squeeze(1)).sum()
            if hidden_gradient_ND is not None and head_gradient_VD is not None:
                gradient_CV = log_probabilities_CV.exp_()
                gradient_CV[torch.arange(len(targets), device=targets.device), targets] -= 1
                gradient_CV = (gradient_CV * weights[:, None]).to(head.dtype)
                hidden_gradient_ND[part] = gradient_CV @ head
                head_gradient_VD += gradient_CV.T @ hidden
        ctx.save_for_backward(hidden_gradient_ND, head_gradient_VD)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        hidden_gradient_ND, head_gradient_VD = ctx.saved_tensors
        scale = gradients[0]
        return (hidden_gradient_ND * scale).to(hidden_gradient_ND.dtype), head_gradient_VD * scale, None, None, None
