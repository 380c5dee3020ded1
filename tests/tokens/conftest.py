"""A small curated artifact of our own sentences in many scripts, and a tokenizer trained on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from own_sentences import HORRIBLE, SENTENCES, write_documents
from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.training import train_tokenizer


def write_jsonl(path: Path, records: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curated")
    pairs = [(language, sentence) for language, sentences in SENTENCES.items() for sentence in sentences]
    train = [(language, f"{sentence} {number}\n{sentence}") for number in range(20) for language, sentence in pairs]
    write_documents(folder, "train", train[: len(train) // 2], "00000")
    write_documents(folder, "train", train[len(train) // 2 :], "00001")
    write_documents(folder, "heldout", [(language, sentence + " ✓") for language, sentence in pairs])
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerConfiguration(vocab_size=900, reserved_tokens=4), curated, folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder)


@pytest.fixture(scope="session")
def sentences() -> dict[str, list[str]]:
    return SENTENCES


@pytest.fixture(scope="session")
def horrible() -> list[str]:
    return HORRIBLE


@pytest.fixture
def make_curated(tmp_path: Path) -> Callable[..., Path]:
    """make_curated(train=[(language, text), …], heldout=[…]) writes a curated artifact's documents."""

    def make(**splits: Sequence[tuple[str, str]]) -> Path:
        for split, rows in splits.items():
            write_documents(tmp_path / "curated", split, rows)
        return tmp_path / "curated"

    return make


@pytest.fixture
def make_jsonl(tmp_path: Path) -> Callable[[Sequence[object]], Path]:
    return lambda records: write_jsonl(tmp_path / "conversations.jsonl", records)
