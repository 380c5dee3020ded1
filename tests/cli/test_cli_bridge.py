"""The verbs `import`, `export` and `inspect`, as typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tiny
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import copy_tokenizer, published_token_ids, save_weights
from vernacular.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mistral folder with a window, as its publisher has it."""
    base = tmp_path_factory.mktemp("cli-bridge")
    tokenizer = tiny.make_tokenizer(base / "tokenizer")
    shape = ModelShape(family="mistral", hidden_size=64, num_layers=2, num_heads=4, intermediate_size=96, window=16)
    decoder = Decoder(configure(shape, tiny.VOCAB_SIZE, 128))
    decoder.initialise(0)
    folder = base / "published"
    folder.mkdir()
    token_ids = published_token_ids(Tokenizer.load(tokenizer))
    save_weights(folder, decoder, token_ids=token_ids, dtype="bfloat16")
    copy_tokenizer(tokenizer, folder)
    return folder


def test_import_then_export(run_cli, published: Path, tmp_path: Path) -> None:
    shown = run_cli("import", published, "weights", "--window", "none", cwd=tmp_path).stdout
    assert shown.startswith("weights: mistral, ")
    assert json.loads((tmp_path / "weights/config.json").read_text())["sliding_window"] is None
    shown = run_cli("export", "weights", "release", cwd=tmp_path).stdout
    assert shown.startswith("release: mistral, ")
    assert (tmp_path / "release/model.safetensors").read_bytes() == (published / "model.safetensors").read_bytes()
    assert not (tmp_path / "release/provenance.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--window", "wide"), "'wide' is no window"),
        (("--shard-gb", "0"), "holds nothing"),
        (("--dtype", "int8"), "unknown dtype 'int8'"),
        (("--template", "krutrim-3"), "krutrim-"),
        (("--template", "nowhere.jinja"), "the chat template does not exist"),
        (("--windwo", "3"), "did you mean '--window'?"),
    ],
)
def test_import_refuses_what_it_cannot_do(run_cli, published: Path, tmp_path: Path, words, said: str) -> None:
    done = run_cli("import", published, tmp_path / "out", *words, code=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_only_by_force(run_cli, published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "out")
    assert "exists already" in run_cli("import", published, tmp_path / "out", code=2).stderr
    run_cli("import", published, tmp_path / "out", "--force")
    assert (tmp_path / "out/provenance.json").is_file()


def test_export_names_the_nearest_format(run_cli, published: Path, tmp_path: Path) -> None:
    done = run_cli("export", published, tmp_path / "out", "--format", "transformer", code=2)
    assert "did you mean 'transformers'?" in done.stderr
