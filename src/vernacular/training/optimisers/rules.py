"""One step of one tensor, in float32: AdamW and Muon. A tensor's averages may be kept in fewer bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vernacular.parallel.gradients import on_whole_matrices
from vernacular.training.optimisers.eight_bit import is_eight_bit, new_averages

# The quintic whose slope at 0 is steepest (Jordan et al. 2024, as in torch.optim.Muon).
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_SMALLEST_NORM = 1e-7


def adamw(value: Tensor, gradient: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
    """`value -= rate · (mean / (√square + ε) + decay · value)`, the averages freed of their bias (arXiv 1711.05101)."""
    beta1, beta2 = group["betas"]
    mean = state["mean"].float().lerp_(gradient, 1 - beta1)
    square = state["square"].float().lerp_(gradient.square(), 1 - beta2)
    state["mean"].copy_(mean)
    state["square"].copy_(square)
    bias1, bias2 = 1 - beta1 ** group["steps"], 1 - beta2 ** group["steps"]
    divisor = (square / bias2).sqrt_().add_(group["epsilon"])
    value.mul_(1 - group["lr"] * group["weight_decay"])
    value.sub_((mean / divisor).mul_(group["lr"] / bias1))


def muon(value: Tensor, gradient: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
    """`value -= rate · (orthogonal(momentum) + decay · value)`, for matrices or stacks of them.

    Where a matrix is spread over ranks, each of them turns the whole of it and keeps its own part of the answer.
    """
    mean = state["mean"].float().lerp_(gradient, 1 - group["momentum"])
    state["mean"].copy_(mean)

    def turn(update: Tensor) -> Tensor:
        matrices = update.unflatten(-2, (group["parts"], -1)) if group["parts"] > 1 else update
        factor = _SHAPE_FACTORS[group["adjust"]](*matrices.shape[-2:])
        return orthogonal(matrices, group["newton_schulz_steps"]).mul_(factor).reshape(update.shape)

    update = on_whole_matrices(group["parameter"], gradient.lerp(mean, group["momentum"]), turn)
    value.mul_(1 - group["lr"] * group["weight_decay"])
    value.add_(update, alpha=-group["lr"])


def orthogonal(matrices: Tensor, steps: int) -> Tensor:
    """Nearly the nearest orthogonal matrix to each of [..., O, I], by Newton–Schulz in bfloat16.

    Its singular values are not 1 but between about 0.7 and 1.2, which serves as well.
    """
    a, b, c = _NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if is_tall else matrices).bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=_SMALLEST_NORM)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if is_tall else x).float()


def _match_rms(rows: int, columns: int) -> float:
    """The root mean square of AdamW's updates (Moonlight, arXiv 2502.16982)."""
    return 0.2 * math.sqrt(max(rows, columns))


def _original(rows: int, columns: int) -> float:
    return math.sqrt(max(1.0, rows / columns))


_SHAPE_FACTORS = {"match-rms-adamw": _match_rms, "original": _original}

RULES: Mapping[str, Callable[[Tensor, Tensor, dict[str, Any], Mapping[str, Any]], None]] = {
    "adamw": adamw,
    "muon": muon,
}
AVERAGES: Mapping[str, tuple[str, ...]] = {"adamw": ("mean", "square"), "muon": ("mean",)}


def new_state(parameter: Tensor, rule: str, dtype: torch.dtype) -> dict[str, Any]:
    """What a rule remembers of a tensor, before its first step; its averages in `dtype`, uint8 for 8 bits in blocks."""
    names = AVERAGES[rule]
    if dtype == torch.uint8 and is_eight_bit(parameter):
        averages = new_averages(parameter, names)
    else:
        kept = torch.float32 if dtype == torch.uint8 else dtype
        averages = {name: torch.zeros_like(parameter, dtype=kept) for name in names}
    return {"step": torch.zeros((), dtype=torch.float32), **averages}
