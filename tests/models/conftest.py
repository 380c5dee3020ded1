"""Published folders to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from published_weights import SHAPES
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import copy_tokenizer, published_token_ids, save_weights
from vernacular.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tokenizer(tmp_path_factory.mktemp("bridge") / "tokenizer")


@pytest.fixture
def publish(tmp_path: Path, tokenizer_folder: Path) -> Callable[..., Path]:
    """`publish("mistral")`: a folder as a publisher would have it; `shard_bytes` and any setting of the shape."""

    def make(name: str = "llama", *, shard_bytes: int = 1 << 30, dtype: str = "float32", **changes: Any) -> Path:
        shape = {"hidden_size": 48, "num_layers": 2, "num_heads": 4, "intermediate_size": 192, "initializer_range": 0.2}
        decoder = Decoder(configure(ModelShape(**{**shape, **SHAPES[name], **changes}), tiny.VOCAB_SIZE, 64))
        decoder.initialise(seed=3)
        folder = tmp_path / "published"
        folder.mkdir()
        token_ids = published_token_ids(Tokenizer.load(tokenizer_folder))
        save_weights(folder, decoder, token_ids=token_ids, dtype=dtype, shard_bytes=shard_bytes)
        copy_tokenizer(tokenizer_folder, folder)
        return folder

    return make
