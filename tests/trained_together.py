"""Training runs of a second on the ranks of a crew, through the trainer itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_training import SHAPE, settings
from vernacular.parallel.processes import this_process
from vernacular.training.objectives.pretrain import pretrain

EXPERTS = SHAPE | {
    "family": "granitemoe",
    "num_experts": 4,
    "experts_per_token": 2,
    "router_aux_loss_coef": 0.3,
}
MODELS: dict[str, dict[str, Any]] = {
    "dense": {"model": SHAPE},
    "mixture": {"model": EXPERTS | {"tie_embeddings": False}, "router_z_loss": 1e-2},
}


def train(model: str, changes: dict[str, Any], tokens: Path, folder: Path) -> dict[str, Any]:
    """A run of a few steps of eight rows; its summary, on the first rank."""
    if this_process().leads:
        folder.mkdir(parents=True, exist_ok=True)
    # Larger than usual: a gradient that is zero but for rounding then moves its weight by next to nothing.
    optimiser = {"learning_rate": 1e-2, "warmup_steps": 2, "epsilon": 1e-6, **changes.pop("optimiser", {})}
    configuration = settings(
        **{**MODELS[model], "batch_tokens": 192, "optimiser": optimiser, "z_loss": 1e-3, **changes}
    )
    tokenizer = tokens.parent / "tokenizer"
    return pretrain(configuration, tokens=tokens, tokenizer=tokenizer, weights=None, folder=folder, name="base")


# Loaded on first use otherwise, by every process of a crew for itself.
__import__("torch._dynamo")
__import__("torch.distributed.checkpoint")
__import__("torch.utils.tensorboard")
