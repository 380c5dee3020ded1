"""The decoder against transformers: same folder, same logits; what is read is what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.models.weights import load_decoder, save_weights

TOKEN_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {"num_heads": 6, "num_key_value_heads": 2, "head_dim": 16},
    "one key head, head_dim not hidden/heads": {"num_heads": 4, "num_key_value_heads": 1, "head_dim": 20},
    "tied, all key heads": {"num_heads": 4, "num_key_value_heads": 4, "head_dim": 24, "tie_embeddings": True},
    "other constants": {
        "num_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 48,
        "rope_theta": 1e6,
        "norm_epsilon": 1e-3,
    },
}


def make_decoder(**changes: Any) -> Decoder:
    values: dict[str, Any] = {
        "vocab_size": 333,
        "hidden_size": 96,
        "num_layers": 3,
        "intermediate_size": 200,
        "max_positions": 128,
        "initializer_range": 0.2,
        **changes,
    }
    decoder = Decoder(DecoderConfiguration(**values))
    decoder.initialise(seed=7)
    return decoder


@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    decoder = make_decoder(**SHAPES[name])
    save_weights(tmp_path, decoder, token_ids=TOKEN_IDS)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.randint(0, 333, (2, 57), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(ids).logits
        assert (decoder.logits(decoder(ids)) - expected).abs().max() <= 1e-4
        loaded = load_decoder(tmp_path)
        assert torch.equal(loaded.logits(loaded(ids)), decoder.logits(decoder(ids)))
    assert decoder.configuration.num_parameters() == sum(p.numel() for p in reference.parameters())
    assert expected.std() > 0.1, "the comparison would be empty"


def test_what_transformers_saves_is_read(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    reference = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=200,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=96,
            max_position_embeddings=64,
            rope_theta=5e5,
        )
    ).eval()
    reference.save_pretrained(tmp_path)
    decoder = load_decoder(tmp_path)
    ids = torch.randint(0, 200, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (decoder.logits(decoder(ids)) - reference(ids).logits).abs().max() <= 1e-4


def test_reading_and_writing_returns_the_same_tensors_and_shape(tmp_path: Path) -> None:
    save_weights(tmp_path / "a", make_decoder(**SHAPES["grouped"]), token_ids=TOKEN_IDS)
    save_weights(tmp_path / "b", load_decoder(tmp_path / "a"), token_ids=TOKEN_IDS)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert json.loads((tmp_path / "a/config.json").read_text()) == json.loads((tmp_path / "b/config.json").read_text())
