"""Training on tokens that lie elsewhere: the run of local tokens, on any number of ranks, killed or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import trained_together
from crew import Crew
from flaky_store import FlakyStore, upload
from killed_training import killed_at_update
from tiny_training import settings
from vernacular.foundation.errors import MachineError, UserError
from vernacular.tokens.configuration import TokenCacheConfiguration, TokenizeConfiguration
from vernacular.tokens.elsewhere import mirror_tokens
from vernacular.tokens.tokenization import tokenize_documents
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.pretrain import pretrain

Hire = Callable[[int], Crew]
WINDOW = {"shuffle_shards": 2}


@pytest.fixture(scope="module")
def many_shards(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Token shards of a document each."""
    folder = tmp_path_factory.mktemp("many") / "tokens"
    tokenize_documents(
        TokenizeConfiguration(tokens_per_shard=1), tokenizer.parent / "tokenizer-documents", tokenizer, folder
    )
    for place in (folder / "tokenizer", folder.parent / "tokenizer"):
        shutil.copytree(tokenizer, place)
    return folder


@pytest.fixture(scope="module")
def undisturbed(many_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on local shards."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder, many_shards, many_shards)
    return folder


def cache(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"folder": str(folder / "cache"), "attempts": 3, "first_wait_seconds": 0, **changes}


def train(folder: Path, tokens: Path, many_shards: Path, **changes: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    values = {"heldout_every": 3, "token_cache": cache(folder), **WINDOW, **changes}
    tokenizer = many_shards / "tokenizer"
    return pretrain(
        settings(**values), tokens={"tokens": tokens}, tokenizer=tokenizer, weights=None, folder=folder, name="base"
    )


def mirror(many_shards: Path, folder: Path) -> Path:
    address = upload(many_shards, "flaky://bucket/tokens")
    return mirror_tokens(address, folder / "mirror", TokenCacheConfiguration(), ["tokenizer"])


def assert_same_bits(one: Path, two: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)
    lines = [[(line["loss"], line.get("heldout_loss")) for line in read_metrics(folder)] for folder in (one, two)]
    assert lines[0] == lines[1]


def test_a_run_killed_and_resumed_beside_a_flaky_store_ends_in_the_bits_of_the_local_one(
    many_shards: Path, undisturbed: Path, tmp_path: Path
) -> None:
    tokens = mirror(many_shards, tmp_path)
    FlakyStore.failures = 2
    with killed_at_update(3):
        train(tmp_path / "run", tokens, many_shards)
    shutil.rmtree(tmp_path / "run" / "cache")
    FlakyStore.failures = 2
    train(tmp_path / "run", tokens, many_shards)
    assert_same_bits(tmp_path / "run", undisturbed)


def test_a_lost_store_ends_the_run_and_the_run_goes_on_when_it_is_back(
    many_shards: Path, undisturbed: Path, tmp_path: Path
) -> None:
    tokens = mirror(many_shards, tmp_path)
    FlakyStore.failures = 10**6
    with pytest.raises(MachineError, match=r"of the shard \d+ of split .* tried 3 times") as caught:
        train(tmp_path / "run", tokens, many_shards)
    assert str(caught.value.where).startswith("flaky://bucket/tokens/")
    FlakyStore.failures = 0
    train(tmp_path / "run", tokens, many_shards)
    assert_same_bits(tmp_path / "run", undisturbed)


def test_a_cache_too_small_is_refused_before_the_first_step(many_shards: Path, tmp_path: Path) -> None:
    tokens = mirror(many_shards, tmp_path)
    with pytest.raises(UserError, match=r"the held-out text take \d+ bytes; the cache .* may hold 1000"):
        train(tmp_path / "run", tokens, many_shards, token_cache=cache(tmp_path, max_bytes=1000))
    assert not FlakyStore.opened


@pytest.mark.distributed
@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_read_the_batches_of_one_process_from_one_cache(
    ranks: int, many_shards: Path, hire: Hire, tmp_path: Path
) -> None:
    mirrored = mirror_tokens(many_shards.as_uri(), tmp_path / "mirror", TokenCacheConfiguration(), ["tokenizer"])
    shutil.copytree(many_shards / "tokenizer", tmp_path / "mirror" / "tokenizer")
    changes = {**WINDOW, "token_cache": cache(tmp_path)}
    alone = trained_together.rows_read(changes, many_shards, tmp_path / "alone")
    found = hire(ranks).run(trained_together.rows_read, changes, mirrored, tmp_path / "together")
    assert [[row for part in step for row in part] for step in zip(*found, strict=True)] == alone
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "together"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4
