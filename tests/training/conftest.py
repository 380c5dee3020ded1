"""A tokenizer and token shards small enough to train on in a second."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tokenizer(tmp_path_factory.mktemp("tokens") / "tokenizer")


@pytest.fixture(scope="session")
def tokens(tokenizer: Path) -> Path:
    from vernacular.tokens.configuration import TokenizeConfiguration
    from vernacular.tokens.tokenization import tokenize_documents

    folder = tokenizer.parent / "tokens"
    tokenize_documents(TokenizeConfiguration(), tokenizer.parent / "tokenizer-documents", tokenizer, folder)
    return folder
