"""Servers and the model behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny
from served import KEY, ServerProcess
from vernacular.inference.model import LocalModel, load


@pytest.fixture(scope="session")
def served_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    return tiny.make_weights(folder / "mały-model", tiny.make_tokenizer(folder / "tokenizer"), max_positions=2048)


@pytest.fixture(scope="session")
def served_lm(served_weights: Path) -> LocalModel:
    return load(served_weights)


@pytest.fixture(scope="session")
def server(served_weights: Path) -> Iterator[ServerProcess]:
    """A server for everybody, with default limits and without keys."""
    running = ServerProcess(served_weights, "--model-name", "tiny")
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def strict_server(served_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that asks for a key and takes short bodies only."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(f"# of the tests\n\n{KEY}\n", encoding="utf-8")
    words = ("--api-key-file", str(keys), "--max-body-bytes", "20000")
    running = ServerProcess(served_weights, *words, env={"VERNACULAR_API_KEYS": "other-key, third-key"})
    yield running
    assert running.stop() == 0
