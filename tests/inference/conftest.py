"""A tiny model for every test of the room."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from vernacular.inference.model import LocalModel, load


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tokenizer(tmp_path_factory.mktemp("tiny") / "tokenizer")


@pytest.fixture(scope="session")
def weights_folder(tokenizer_folder: Path) -> Path:
    return tiny.make_weights(tokenizer_folder.parent / "weights", tokenizer_folder)


@pytest.fixture(scope="session")
def lm(weights_folder: Path) -> LocalModel:
    return load(weights_folder)
