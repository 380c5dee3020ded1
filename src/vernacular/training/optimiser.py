"""AdamW over two groups: matrices decay, vectors (norms, biases) do not."""

from __future__ import annotations

import torch
from torch import nn

from vernacular.training.optimisation import OptimiserConfiguration


def build_optimiser(model: nn.Module, configuration: OptimiserConfiguration) -> torch.optim.AdamW:
    """The optimiser of `model`; its rate is set by `set_learning_rate` before every step."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": configuration.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=configuration.learning_rate,
        betas=(configuration.beta1, configuration.beta2),
        eps=configuration.epsilon,
        fused=True,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the same rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
