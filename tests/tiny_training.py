"""Settings of a training run that takes a second."""

from __future__ import annotations

from typing import Any

from vernacular.training.configuration import PretrainConfiguration

SHAPE = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}


def settings(**changes: Any) -> PretrainConfiguration:
    values: dict[str, Any] = {
        "model": SHAPE,
        "steps": 6,
        "sequence_length": 24,
        "batch_tokens": 96,
        "optimiser": {"learning_rate": 1e-2, "warmup_steps": 2},
        "threads": 1,
        "log_every": 1,
        "checkpoint_every": 2,
        **changes,
    }
    return PretrainConfiguration.model_validate(values)
