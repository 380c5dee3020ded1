"""Weights folders that are wrong are refused, naming the file and what is wrong in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vernacular.foundation.errors import UserError
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import (
    check_has_tokenizer,
    load_decoder,
    read_config,
    save_weights,
    stated_end_ids,
    torch_dtype,
    weights_hash,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shape = ModelShape(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=48)
    decoder = Decoder(configure(shape, vocab_size=50, max_positions=32))
    decoder.initialise(seed=0)
    save_weights(tmp_path, decoder, token_ids={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    return tmp_path


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "gone"}))


def change_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path) | {key.replace("__", "."): value for key, value in changes.items()}
    save_file({key: value for key, value in tensors.items() if value is not None}, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "lama"}, "unknown model_type 'lama'"),
        ({"attention_bias": True}, "'attention_bias: True' is not supported"),
        ({"hidden_act": "quick_gelu"}, "silu"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "scaled rotary positions"),
        ({"rope_theta": 7.0}, "rope_parameters says 10000"),
        ({"model_type": "gone"}, "the key 'model_type' is missing"),
        ({"model_type": ["llama"]}, "unknown model_type"),
        ({"hidden_size": "gone"}, "'hidden_size' is missing"),
        ({"num_key_value_heads": 3}, "does not divide"),
    ],
)
def test_a_config_we_do_not_compute_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(UserError, match=message) as caught:
        read_config(folder)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("stated", [99999, 50, -1, "x", [[1]], [], True, 2.0])
@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_an_end_token_outside_the_vocabulary_is_refused(folder: Path, name: str, stated: Any) -> None:
    if name == "config.json":
        (folder / "generation_config.json").unlink()
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": stated}))
    with pytest.raises(UserError) as caught:
        stated_end_ids(folder)
    assert f"eos_token_id is {json.dumps(stated)}, which is no id of a vocabulary of 50" in str(caught.value)
    assert f"{path} (eos_token_id)" in str(caught.value)


def test_end_tokens_are_one_or_several(folder: Path) -> None:
    assert stated_end_ids(folder) == [2]
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 49]}')
    assert stated_end_ids(folder) == [2, 49]
    (folder / "config.json").unlink()
    assert stated_end_ids(folder) == [2, 49]


def test_tensors_that_do_not_fit_are_named(folder: Path) -> None:
    change_tensors(folder, model__norm__weight=torch.ones(31))
    with pytest.raises(UserError, match=r"'model\.norm\.weight' is \[31\]; config\.json asks for \[32\]"):
        load_decoder(folder)


def test_missing_and_surplus_tensors_are_named(folder: Path) -> None:
    change_tensors(folder, model__norm__bias=torch.ones(32))
    with pytest.raises(UserError, match=r"unexpected tensor 'model\.norm\.bias'"):
        load_decoder(folder)
    change_tensors(folder, model__norm__bias=None, model__norm__weight=None)
    with pytest.raises(UserError, match=r"'model\.norm\.weight' is missing"):
        load_decoder(folder)


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_decoder(folder)
    assert str(path) in str(caught.value)


def test_folders_that_hold_no_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_decoder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config\.json"):
        load_decoder(tmp_path / "empty")
    with pytest.raises(UserError, match="no tokenizer"):
        check_has_tokenizer(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        load_decoder(folder)


def test_precision_is_what_was_asked_for_or_refused(folder: Path) -> None:
    assert {p.dtype for p in load_decoder(folder, dtype="bfloat16").parameters()} == {torch.bfloat16}
    with pytest.raises(UserError, match="unknown dtype 'float16'"):
        torch_dtype("float16")


def test_the_hash_follows_the_weights(folder: Path) -> None:
    before = weights_hash(folder)
    assert weights_hash(folder) == before
    change_tensors(folder, model__norm__weight=torch.full((32,), 2.0))
    assert weights_hash(folder) != before
