"""Weights folders to measure with: random decoders of known sizes, and a tokenizer trained on made-up words."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch

from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.models.weights import save_weights
from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.training import train_tokenizer

TRAINED_TOKENS = 2048
TOKEN_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {
    "7 M parameters": {
        "vocab_size": 8192,
        "hidden_size": 256,
        "num_layers": 6,
        "num_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "intermediate_size": 704,
    },
    "117 M parameters": {
        "vocab_size": 32768,
        "hidden_size": 768,
        "num_layers": 12,
        "num_heads": 12,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "intermediate_size": 2048,
    },
    "70M": {
        "vocab_size": 32000,
        "hidden_size": 512,
        "num_layers": 12,
        "num_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "intermediate_size": 1536,
    },
    "350M": {
        "vocab_size": 32000,
        "hidden_size": 1024,
        "num_layers": 24,
        "num_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "intermediate_size": 2816,
    },
    "MoE 85M": {
        "family": "granitemoe",
        "feed_forward": "experts",
        "vocab_size": 32000,
        "hidden_size": 384,
        "num_layers": 8,
        "num_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 48,
        "intermediate_size": 192,
        "num_experts": 32,
        "experts_per_token": 8,
        "attention_multiplier": 48**-0.5,
    },
    "Granite 1B-A400M": {
        "family": "granitemoe",
        "feed_forward": "experts",
        "vocab_size": 49155,
        "hidden_size": 1024,
        "num_layers": 24,
        "num_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "intermediate_size": 512,
        "num_experts": 32,
        "experts_per_token": 8,
        "tie_embeddings": True,
        "attention_multiplier": 0.015625,
        "embedding_multiplier": 12.0,
        "logits_scaling": 6.0,
        "residual_multiplier": 0.22,
    },
    "7B": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "num_layers": 32,
        "num_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 14336,
    },
    "smoke": {
        "vocab_size": 2048,
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
    },
    "smoke mixture": {
        "family": "granitemoe",
        "feed_forward": "experts",
        "vocab_size": 2048,
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 32,
        "num_experts": 4,
        "experts_per_token": 2,
        "attention_multiplier": 0.25,
    },
}
_SYLLABLES = ["ka", "gę", "रा", "த்", "ло", "بي", "ni", "सू", "ość", "ம", "tra", "এ", "wi", "ध", "zh"]


def shape_of(size: str, *, max_positions: int = 1024, initializer_range: float = 0.1) -> DecoderConfiguration:
    """The decoder of this size."""
    return DecoderConfiguration(**SIZES[size], max_positions=max_positions, initializer_range=initializer_range)


def draw(decoder: Decoder, device: torch.device | str, deviation: float = 0.02) -> None:
    """Normal weights, drawn where they lie: a full size takes minutes to draw on a CPU."""
    generator = torch.Generator(device)
    generator.manual_seed(0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=deviation, generator=generator)


def write_weights(
    folder: Path, size: str, max_positions: int = 1024, dtype: str = "float32", initializer_range: float = 0.1
) -> Path:
    """Write a decoder of this size and a tokenizer below `folder`; return the weights folder.

    By default the weights are drawn wide enough for greedy choices to be clear. The end token always scores 0, which is
    never the best score, so that every answer has its full length.
    """
    decoder = Decoder(shape_of(size, max_positions=max_positions, initializer_range=initializer_range))
    decoder.initialise(seed=0)
    with torch.no_grad():
        decoder.head.weight[TOKEN_IDS["eos_token_id"]] = 0
    weights = folder / "weights"
    weights.mkdir()
    save_weights(weights, decoder, token_ids=TOKEN_IDS, dtype=dtype)
    _write_documents(folder / "documents" / "documents")
    train_tokenizer(TokenizerConfiguration(vocab_size=TRAINED_TOKENS), folder / "documents", weights)
    return weights


def _write_documents(folder: Path) -> None:
    numbers = random.Random(0)
    texts = [
        " ".join("".join(numbers.choices(_SYLLABLES, k=numbers.randint(1, 4))) for _ in range(60)) for _ in range(400)
    ]
    for split in ("train", "heldout"):
        (folder / split).mkdir(parents=True)
        table = {"id": [f"{n:032x}" for n in range(len(texts))], "text": texts, "language": ["und"] * len(texts)}
        pyarrow.parquet.write_table(pyarrow.table(table), folder / split / "00000.parquet")
