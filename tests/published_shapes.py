"""What the config.json of the weights says that two of the five recipes begin with."""

from __future__ import annotations

from typing import Any

_MISTRAL: dict[str, Any] = {
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 14336,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "sliding_window": 4096,
    "tie_word_embeddings": False,
}
BEGINS_WITH: dict[str, dict[str, Any]] = {
    "nemo": {
        **_MISTRAL,
        "hidden_size": 5120,
        "num_hidden_layers": 40,
        "vocab_size": 131072,
        "max_position_embeddings": 1024000,
        "rope_theta": 1e6,
        "sliding_window": None,
    },
    "mistral": {
        **_MISTRAL,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 8192,
        "rope_theta": 1e4,
    },
}
