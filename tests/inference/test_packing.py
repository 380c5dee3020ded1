"""Packed layers change the speed, not the results: every family, every format."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vernacular.foundation.errors import UserError
from vernacular.inference.packing import pack
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"num_heads": 6, "num_key_value_heads": 2, "head_dim": 10},
    "llama tied": {"num_heads": 4, "tie_embeddings": True},
    "mistral": {"family": "mistral", "num_heads": 4, "window": 5},
    "granite": {"family": "granite", "num_heads": 4, "residual_multiplier": 0.22, "embedding_multiplier": 12.0},
    "granitemoe": {"family": "granitemoe", "num_heads": 4, "num_experts": 5, "experts_per_token": 2},
    "mpt": {"family": "mpt", "num_heads": 6, "num_key_value_heads": 2, "tie_embeddings": True, "clip_qkv": 0.7},
}
# Largest root mean square of the differences as a share of the logits' own.
LARGEST = {"float32": 1e-6, "bfloat16": 0.03, "int8": 0.04, "int4": 0.4}


def make_decoder(**changes: Any) -> Decoder:
    shape = {"hidden_size": 96, "num_layers": 2, "intermediate_size": 192, "initializer_range": 0.1, **changes}
    decoder = Decoder(configure(ModelShape(**shape), 333, max_positions=64))
    decoder.initialise(seed=7)
    return decoder.eval()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("format", LARGEST)
@torch.inference_mode()
def test_a_packed_decoder_gives_the_same_logits(name: str, format: str) -> None:
    decoder = make_decoder(**SHAPES[name])
    ids = torch.randint(0, 333, (1, 17), generator=torch.Generator().manual_seed(0))
    expected = decoder.logits(decoder(ids))
    if format != "float32":
        decoder = decoder.bfloat16()
    pack(decoder, format)
    found = decoder.logits(decoder(ids))
    assert found.dtype == torch.float32
    assert (found - expected).square().mean().sqrt() <= LARGEST[format] * expected.square().mean().sqrt()
    if format != "float32":
        assert not torch.equal(found, expected)


@torch.inference_mode()
def test_nothing_of_pytorch_is_left_in_a_block(tmp_path: object) -> None:
    for name in ("llama", "granitemoe"):
        decoder = make_decoder(**SHAPES[name])
        pack(decoder, "float32")
        assert nn.Linear not in {type(module) for module in decoder.modules()}
        assert {name for name, _ in decoder.named_parameters()} == {"embedding.weight"}, "unpacked weights are freed"


@torch.inference_mode()
def test_eight_bits_take_half_the_memory_of_sixteen() -> None:
    sizes = {}
    for format in ("bfloat16", "int8", "int4"):
        decoder = make_decoder(num_heads=4, hidden_size=128, intermediate_size=256).bfloat16()
        pack(decoder, format)
        sizes[format] = sum(buffer.nbytes for buffer in decoder.blocks.buffers())
    assert sizes["int8"] < 0.55 * sizes["bfloat16"]
    assert sizes["int4"] < 0.32 * sizes["bfloat16"]


def test_experts_with_another_activation_are_refused() -> None:
    decoder = make_decoder(**SHAPES["granitemoe"], activation="gelu")
    with pytest.raises(UserError, match="silu only"):
        pack(decoder, "float32")
