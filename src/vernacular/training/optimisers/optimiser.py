"""The optimiser that a recipe names, over a decoder's groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vernacular.models.decoder import Decoder
from vernacular.training.optimisation import OptimiserConfiguration
from vernacular.training.optimisers.groups import parameter_groups, roles
from vernacular.training.optimisers.rounding import Rounder, Rounding
from vernacular.training.optimisers.ruled import RuledOptimiser

_AVERAGE_DTYPES = {"adamw-bf16": torch.bfloat16, "adamw-8bit": torch.uint8}


def build_optimiser(
    decoder: Decoder, configuration: OptimiserConfiguration, *, rounding: Rounding = "nearest", seed: int = 0
) -> torch.optim.Optimizer:
    """The optimiser of `decoder`; its rate is set by `set_learning_rate` before every step.

    Args:
        decoder: float32, or bfloat16 with gradients in float32.
        configuration: which optimiser, and its constants.
        rounding: how bfloat16 weights are written back.
        seed: of the noise of stochastic rounding.
    """
    groups = parameter_groups(decoder, configuration)
    is_whole = all(parameter.dtype == torch.float32 for parameter in decoder.parameters())
    if configuration.name == "adamw" and is_whole:
        return _with_state(
            torch.optim.AdamW(groups, **_adamw_settings(configuration), fused=True), configuration.learning_rate
        )
    return RuledOptimiser(
        groups,
        {
            "lr": configuration.learning_rate,
            "betas": (configuration.beta1, configuration.beta2),
            "epsilon": configuration.epsilon,
            "momentum": configuration.muon.momentum,
            "adjust": configuration.muon.adjust,
            "newton_schulz_steps": configuration.muon.newton_schulz_steps,
        },
        average_dtype=_AVERAGE_DTYPES.get(configuration.name, torch.float32),
        rounder=Rounder(rounding, seed),
        names={parameter: name for name, _, parameter in roles(decoder)},
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the rate."""
    for group in optimiser.param_groups:
        share = rate * group["rate_scale"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(share)
        else:
            group["lr"] = share


def _adamw_settings(configuration: OptimiserConfiguration) -> dict[str, Any]:
    return {
        "lr": configuration.learning_rate,
        "betas": (configuration.beta1, configuration.beta2),
        "eps": configuration.epsilon,
    }


def _with_state(optimiser: torch.optim.Optimizer, rate: float) -> torch.optim.Optimizer:
    """The optimiser with averages of 0 and no steps counted, so that a checkpoint before the first step is a true one.

    Left to make them, torch.distributed.checkpoint takes a step, and counts it.
    """
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    set_learning_rate(optimiser, 0.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    set_learning_rate(optimiser, rate)
    for state in optimiser.state.values():
        state["step"].zero_()
    return optimiser
