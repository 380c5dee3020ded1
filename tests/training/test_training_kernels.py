"""Training by the native kernels: the curves are PyTorch's, packed is unpacked, what they cannot do is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tiny_training import SHAPE, settings
from vernacular.foundation.errors import UserError
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.models.training_kernels import NativeAttend, use_native_kernels
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.objectives.next_token import NextToken
from vernacular.training.trainer import Trainer

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "granite": {
        "feed_forward": "experts",
        "num_experts": 4,
        "experts_per_token": 2,
        "router_aux_loss_coef": 0.01,
        "residual_multiplier": 0.5,
        "family": "granitemoe",
    },
    "mpt": {
        "position": "alibi",
        "norm": "layer",
        "feed_forward": "plain",
        "activation": "gelu",
        "num_key_value_heads": 4,
        "tie_embeddings": True,
        "family": "mpt",
    },
    "window": {"window": 9, "family": "mistral"},
}


def decoder(shape: dict[str, Any]) -> Decoder:
    built = Decoder(DecoderConfiguration(**{**SHAPE, "vocab_size": 1024, "head_dim": 8, "max_positions": 64, **shape}))
    built.initialise(0)
    return built


def curve(folder: Path, tokens: Path, shape: dict[str, Any], **changes: Any) -> list[float]:
    """The losses of a short run."""
    configuration = settings(steps=8, **changes)
    tokenizer = Tokenizer.load(tokens.parent / "tokenizer")
    objective = NextToken(configuration, {"tokens": tokens}, "stream", tokenizer=tokenizer)
    Trainer(configuration, objective, decoder(shape), folder, name="curve").fit()
    lines = (folder / "logs" / "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines)]


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize(("precision", "allowed"), [("float32", 2e-4), ("bfloat16", 0.03)])
def test_the_loss_follows_that_of_pytorchs_kernels(
    tmp_path: Path, tokens: Path, family: str, precision: str, allowed: float
) -> None:
    native = curve(tmp_path / "native", tokens, SHAPES[family], precision=precision)
    torchs = curve(tmp_path / "torch", tokens, SHAPES[family], precision=precision, kernels="torch")
    assert len(native) == len(torchs) == 8
    assert native[-1] < native[0] - 0.1
    assert native == pytest.approx(torchs, abs=allowed)


def test_two_runs_are_the_same_bits(tmp_path: Path, tokens: Path) -> None:
    first = curve(tmp_path / "first", tokens, SHAPES["granite"], precision="bfloat16", threads=2)
    assert curve(tmp_path / "second", tokens, SHAPES["granite"], precision="bfloat16", threads=2) == first


@pytest.mark.parametrize("family", SHAPES)
def test_packed_documents_are_what_they_are_alone(family: str) -> None:
    model = decoder(SHAPES[family])
    use_native_kernels(model)
    ids = torch.arange(40).view(1, -1) * 7 % 320
    documents = torch.tensor([[3] * 17 + [5] * 23])
    positions = torch.cat((torch.arange(17), torch.arange(23)))[None]
    packed = model(ids, positions_BT=positions, attend=NativeAttend(documents))
    for part in (slice(0, 17), slice(17, 40)):
        alone = model(ids[:, part], attend=NativeAttend(documents[:, part]))
        torch.testing.assert_close(packed[:, part], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"head_dim": 9, "position": "alibi"}, "heads of even width"),
        ({**SHAPES["granite"], "activation": "gelu"}, "experts with the activation silu"),
    ],
)
def test_what_the_kernels_cannot_train_is_refused_by_name(shape: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        use_native_kernels(decoder(shape))
    assert "kernels: torch" in str(caught.value.fix)


def test_the_setting_is_refused_where_it_cannot_hold() -> None:
    with pytest.raises(UserError, match="on a CPU only"):
        settings(kernels="native").compute_natively("cuda")
    with pytest.raises(ValidationError, match="exclude each other"):
        settings(kernels="native", compile=True)


@pytest.mark.parametrize(
    ("changes", "device", "native"),
    [({}, "cpu", True), ({}, "cuda", False), ({"compile": True}, "cpu", False), ({"kernels": "torch"}, "cpu", False)],
)
def test_the_default_is_native_on_a_cpu(changes: dict[str, Any], device: str, native: bool) -> None:
    assert settings(**changes).compute_natively(device) is native
