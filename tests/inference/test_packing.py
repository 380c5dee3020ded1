"""Packed layers change the speed, not the results: every family, every format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vernacular.foundation.errors import UserError
from vernacular.inference.packing import arithmetic_of, load_packed, pack
from vernacular.inference.weight_only import check_can_be_quantised, quantise_weights
from vernacular.kernels.linear import QUANTISED
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import load_decoder, save_weights

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


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "granitemoe"])
@pytest.mark.parametrize("format", QUANTISED)
@torch.inference_mode()
def test_pytorchs_kernels_multiply_the_same_integers(name: str, format: str) -> None:
    # Heads of 16, since PyTorch's 4-bit product takes outputs by 16; a vocabulary that is none of them stays in 8 bits.
    packed, plain = (make_decoder(**{**SHAPES[name], "head_dim": 16}).bfloat16() for _ in range(2))
    pack(packed, format)
    quantise_weights(plain, format)
    assert nn.Linear not in {type(module) for module in plain.modules()}
    ids = torch.randint(0, 333, (1, 17), generator=torch.Generator().manual_seed(0))
    expected, found = (decoder.logits(decoder(ids)) for decoder in (packed, plain))
    assert (found - expected).square().mean().sqrt() <= LARGEST["bfloat16"] * expected.square().mean().sqrt()


def test_what_pytorchs_kernels_cannot_multiply_is_refused() -> None:
    experts = make_decoder(**SHAPES["granitemoe"])
    with pytest.raises(UserError, match="experts in int8 need the native kernels"):
        check_can_be_quantised(experts.configuration, "int8")
    odd = make_decoder(num_heads=6, num_key_value_heads=2, head_dim=10).bfloat16()
    with pytest.raises(UserError, match="outputs of whole 16s; this layer has 96 and 60") as caught:
        quantise_weights(odd, "int4")
    assert caught.value.fix == "choose dtype int8"


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


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_packing_from_the_file_gives_the_same_bits(name: str, stored: str, tmp_path: Path) -> None:
    save_weights(tmp_path, make_decoder(**SHAPES[name]), token_ids={"eos_token_id": 2}, dtype=stored)
    ids = torch.randint(0, 333, (1, 17), generator=torch.Generator().manual_seed(0))
    for format in LARGEST:
        copied = load_decoder(tmp_path, arithmetic_of(format))
        pack(copied, format)
        mapped = load_packed(tmp_path, format)
        assert torch.equal(mapped.logits(mapped(ids)), copied.logits(copied(ids)))


MEASURE = """
import sys
from pathlib import Path
import torch
from vernacular.inference.packing import load_packed

def peak():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])

torch.set_num_threads(1)
load_packed(Path(sys.argv[2]), "bfloat16")  # what is imported and compiled on first use is no copy of weights
before = peak()
load_packed(Path(sys.argv[1]), "bfloat16")
print((peak() - before) * 1024)
"""


def test_no_second_copy_is_held_while_packing(tmp_path: Path) -> None:
    decoder = make_decoder(hidden_size=512, intermediate_size=2048, num_layers=12, num_heads=8)
    save_weights(tmp_path, decoder, token_ids={"eos_token_id": 2}, dtype="bfloat16")
    save_weights(tmp_path / "small", make_decoder(num_heads=4), token_ids={"eos_token_id": 2}, dtype="bfloat16")
    total = (tmp_path / "model.safetensors").stat().st_size
    assert total > 90_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), str(tmp_path / "small")],
        check=True,
        capture_output=True,
        text=True,
        timeout=200,
    )
    block = total // 12
    assert int(done.stdout) <= total + block + 4_000_000
