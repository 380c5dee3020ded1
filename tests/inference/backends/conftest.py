"""Weights, others of the same shape, and a server of the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny
from misbehaving import FakeServer
from served import ServerProcess
from vernacular.inference.model import LocalModel, load


@pytest.fixture(scope="session")
def checked_weights(tokenizer_folder: Path) -> Path:
    return tiny.make_weights(tokenizer_folder.parent / "checked", tokenizer_folder, max_positions=320)


@pytest.fixture(scope="session")
def other_weights(tokenizer_folder: Path) -> Path:
    return tiny.make_weights(tokenizer_folder.parent / "other", tokenizer_folder, max_positions=320, seed=4)


@pytest.fixture(scope="session")
def checked_lm(checked_weights: Path) -> LocalModel:
    return load(checked_weights)


@pytest.fixture(scope="session")
def checked_server(checked_weights: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(checked_weights, "--model-name", "tiny")
    yield running
    assert running.stop() == 0


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    running = FakeServer()
    yield running
    running.stop()
