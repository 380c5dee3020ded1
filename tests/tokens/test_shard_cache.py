"""Shards that lie elsewhere: the same batches, no more on the disk than is allowed, faults named or got over."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flaky_store import FlakyStore, upload
from vernacular.foundation.errors import MachineError, UserError
from vernacular.tokens.configuration import TokenCacheConfiguration, TokenizeConfiguration
from vernacular.tokens.elsewhere import mirror_tokens
from vernacular.tokens.look_ahead import LookAhead
from vernacular.tokens.mixed_rows import open_cells
from vernacular.tokens.mixture import plan_mixture
from vernacular.tokens.order import MixtureOrder, Order
from vernacular.tokens.packing import Batch, PackedRows
from vernacular.tokens.shard_cache import RemoteShard, ShardCache
from vernacular.tokens.shards import ShardReader
from vernacular.tokens.tokenization import tokenize_documents
from vernacular.training.configuration import PretrainConfiguration

ADDRESS = "flaky://bucket/tokens"
WINDOW, LENGTH, BATCH = 2, 32, 4

Open = Callable[..., ShardReader]


@pytest.fixture(scope="module")
def local(curated: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Token shards of a few hundred tokens, with their tokenizer."""
    folder = tmp_path_factory.mktemp("local") / "tokens"
    tokenize_documents(TokenizeConfiguration(tokens_per_shard=400), curated, tokenizer_folder, folder)
    shutil.copytree(tokenizer_folder, folder / "tokenizer")
    return folder


@pytest.fixture
def remote(local: Path, tmp_path: Path) -> Path:
    """The folder that stands for the same shards in a store."""
    return mirror_tokens(upload(local, ADDRESS), tmp_path / "mirror", settings(tmp_path), ["tokenizer"])


def settings(folder: Path, max_bytes: int = 2**20, attempts: int = 3) -> TokenCacheConfiguration:
    return TokenCacheConfiguration(
        folder=str(folder / "cache"), max_bytes=max_bytes, attempts=attempts, first_wait_seconds=0
    )


def size_of(shard: Any) -> int:
    return sum(shard.num_bytes(part) for part in shard.sha256)


def bytes_in(folder: Path) -> int:
    """Sizes of the files below a folder, while a thread may rename and remove some."""
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.path.getsize(os.path.join(here, name))
    return total


def assert_same(one: Batch, two: Batch) -> None:
    for name in ("ids_BT", "targets_BT", "weights_BT", "positions_BT", "documents_BT"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert one.names == two.names


def test_batches_are_those_of_local_shards_and_each_shard_is_fetched_once_an_epoch(
    local: Path, remote: Path, tmp_path: Path
) -> None:
    here = PackedRows(ShardReader.open(local, "train"), LENGTH, window=WINDOW)
    order = Order(len(here), BATCH, 3, here.epochs)
    bound = here.epochs.bytes_needed([size_of(shard) for shard in here.shards])
    assert bound < bytes_in(local / "train") / 2
    cache = ShardCache(settings(tmp_path, bound))
    there = PackedRows(ShardReader([remote], "train", cache=cache), LENGTH, window=WINDOW)
    look_ahead = LookAhead(cache, there, order, heldout=[])
    assert len(there) == len(here)
    for step in range(len(here) // BATCH):
        look_ahead.begin(step)
        assert_same(there.batch(order.indices(step)), here.batch(order.indices(step)))
        assert bytes_in(tmp_path / "cache") <= bound
    assert len(FlakyStore.opened) == 3 * len(here.shards)
    _, coming = here.epochs.upcoming(len(here) - 1, (3,))  # of the next epoch
    again = {here.shards[number].name for number in coming}
    assert {name.partition(".")[0] for name, times in FlakyStore.opened.items() if times > 1} <= again


def test_a_mixture_is_that_of_local_shards(local: Path, remote: Path, tmp_path: Path) -> None:
    mixture = PretrainConfiguration.model_validate(
        {
            "steps": 12,
            "sequence_length": LENGTH,
            "batch_tokens": BATCH * LENGTH,
            "optimiser": {"learning_rate": 1},
            "mixture": {"by": "language", "shares": {"hi": 2, "pl": 1}},
        }
    )
    cache = ShardCache(settings(tmp_path))
    here, there = (
        open_cells({"tokens": folder}, "train", "language", LENGTH, window=1, cache=cache) for folder in (local, remote)
    )
    phases = plan_mixture(mixture.phases, here.sizes, steps=12, batch_size=BATCH)
    order = MixtureOrder(here.sizes, phases, BATCH, 3, here.epochs)
    look_ahead = LookAhead(cache, there, order, heldout=[])
    upcoming = {there.shards[number].language for step in range(12) for number in order.upcoming(step)}
    assert upcoming == {"hi", "pl"}, "cells that are left out are not fetched"
    for step in range(12):
        look_ahead.begin(step)
        assert_same(there.batch(order.indices(step)), here.batch(order.indices(step)))
    largest = {
        language: sorted((size_of(shard) for shard in there.shards if shard.language == language), reverse=True)[:2]
        for language in ("hi", "pl")
    }
    assert order.bytes_needed([size_of(shard) for shard in there.shards]) == sum(map(sum, largest.values()))


def test_what_is_used_longest_ago_goes_and_what_is_to_stay_stays(remote: Path, tmp_path: Path) -> None:
    a, b, c, d = ShardReader([remote], "train").shards[:4]
    cache = ShardCache(settings(tmp_path, sum(map(size_of, (a, b, c, d))) - 1))
    a, b, c, d = ShardReader([remote], "train", cache=cache).shards[:4]
    assert isinstance(b, RemoteShard)
    cache.keep([b])
    for shard in (b, a, c, a, d):
        assert len(shard.ids) == shard.tokens
    present = {path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()}
    assert present == {shard.key for shard in (a, b, d) if isinstance(shard, RemoteShard)}


def test_shards_are_fetched_ahead_by_a_thread(remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ShardCache(settings(tmp_path))
    shards = [s for s in ShardReader([remote], "train", cache=cache).shards[:3] if isinstance(s, RemoteShard)]
    threads: list[str] = []
    arrived = threading.Event()
    genuine = RemoteShard.fetch

    def fetch(self: RemoteShard, part: str, place: Path) -> None:
        genuine(self, part, place)
        threads.append(threading.current_thread().name)
        if len(threads) == 9:
            arrived.set()

    monkeypatch.setattr(RemoteShard, "fetch", fetch)
    cache.expect(shards)
    assert arrived.wait(30)
    assert [len(shard.ids) for shard in shards] == [shard.tokens for shard in shards]
    assert threads == ["token-shards"] * 9


def test_a_store_that_fails_is_asked_again(remote: Path, tmp_path: Path) -> None:
    cache = ShardCache(settings(tmp_path, attempts=4))
    shard, other = ShardReader([remote], "train", cache=cache).shards[:2]
    FlakyStore.failures = 3
    assert len(shard.ids) == shard.tokens
    FlakyStore.failures = 4
    with pytest.raises(
        MachineError, match=r"ConnectionResetError: the store is busy, while reading .*, tried 4"
    ) as caught:
        other.ids  # noqa: B018
    assert caught.value.where == f"{ADDRESS}/train/{other.name}.ids.bin"
    assert f"ids of the shard {other.name} of split train" in caught.value.message
    assert not list((tmp_path / "cache").glob("*.part"))
    assert len(other.ids) == other.tokens, "another try may succeed"


@pytest.mark.parametrize("part", ["ids", "offsets", "names"])
def test_a_corrupt_shard_is_refused_and_never_seen(part: str, remote: Path, tmp_path: Path) -> None:
    shard = ShardReader([remote], "train", cache=ShardCache(settings(tmp_path))).shards[0]
    file = f"/bucket/tokens/train/{shard.name}.{part}.bin"
    content = bytearray(FlakyStore.store[file].getvalue())
    content[-1] ^= 1
    for damaged in (bytes(content), bytes(content[:-1])):
        FlakyStore().pipe_file(file, damaged)
        with pytest.raises(
            UserError, match=f"{part} of the shard {shard.name} of split train .* was altered"
        ) as caught:
            shard.ids  # noqa: B018
        assert caught.value.where == f"{ADDRESS}/train/{shard.name}.{part}.bin"
        assert bytes_in(tmp_path / "cache") == 0


def test_a_missing_shard_is_asked_for_once(remote: Path, tmp_path: Path) -> None:
    shard = ShardReader([remote], "train", cache=ShardCache(settings(tmp_path))).shards[0]
    FlakyStore().rm_file(f"/bucket/tokens/train/{shard.name}.offsets.bin")
    with pytest.raises(UserError, match=f"offsets of the shard {shard.name} .* is missing"):
        shard.ids  # noqa: B018
    assert FlakyStore.opened[f"{shard.name}.offsets.bin"] == 1


def test_processes_share_a_folder_and_what_one_removes_another_fetches_again(remote: Path, tmp_path: Path) -> None:
    first, *others = ShardReader([remote], "train").shards
    bound = size_of(first) + max(map(size_of, others))
    one, two = (ShardReader([remote], "train", cache=ShardCache(settings(tmp_path, bound))).shards for _ in range(2))
    expected = one[0].ids.tolist()
    assert two[0].ids.tolist() == expected
    assert FlakyStore.opened[f"{first.name}.ids.bin"] == 1
    for shard in one[1:4]:
        assert len(shard.ids) == shard.tokens
    assert two[0].ids.tolist() == expected, "what is mapped can be read on"
    assert one[0].ids.tolist() == expected
    assert FlakyStore.opened[f"{first.name}.ids.bin"] == 2
    assert bytes_in(tmp_path / "cache") <= bound


def test_what_a_killed_process_left_is_removed(remote: Path, tmp_path: Path) -> None:
    shard = ShardReader([remote], "train", cache=ShardCache(settings(tmp_path))).shards[0]
    assert isinstance(shard, RemoteShard)
    for left in (f"{shard.key}.part", "0" * 32 + ".gone"):
        (tmp_path / "cache" / left).mkdir()
        (tmp_path / "cache" / left / "ids.bin").write_bytes(b"half")
    assert len(shard.ids) == shard.tokens
    ShardCache(settings(tmp_path))
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [shard.key]


def test_a_cache_that_is_too_small_is_refused_before_anything_is_read(remote: Path, tmp_path: Path) -> None:
    cache = ShardCache(settings(tmp_path, max_bytes=100))
    reader = ShardReader([remote], "train", cache=cache)
    for window in (None, WINDOW):
        rows = PackedRows(reader, LENGTH, window=window)
        with pytest.raises(UserError, match=r"may hold 100") as caught:
            LookAhead(cache, rows, Order(len(rows), BATCH, 3, rows.epochs), heldout=[])
        assert "shuffle_shards" in str(caught.value)
    with pytest.raises(UserError, match=f"the shard {reader.shards[0].name} of split train"):
        reader.shards[0].ids  # noqa: B018
    assert not FlakyStore.opened


def test_a_reader_is_opened_again_in_another_process(remote: Path, tmp_path: Path) -> None:
    reader = ShardReader([remote], "train", cache=ShardCache(settings(tmp_path)))
    again = pickle.loads(pickle.dumps(reader))
    assert again.slice(0, 50).tolist() == reader.slice(0, 50).tolist()


def test_a_copy_that_is_not_whole_is_refused(local: Path, tmp_path: Path) -> None:
    def mirror() -> Path:
        return mirror_tokens(ADDRESS, tmp_path / "mirror", settings(tmp_path), ["tokenizer"])

    upload(local, ADDRESS)
    index = json.loads((local / "index.json").read_text())
    FlakyStore().rm("/bucket/tokens/tokenizer", recursive=True)
    with pytest.raises(UserError, match="the folder tokenizer is missing"):
        mirror()
    FlakyStore().rm_file("/bucket/tokens/index.json")
    with pytest.raises(UserError, match=r"no finished folder of token shards") as caught:
        mirror()
    assert caught.value.where == f"{ADDRESS}/index.json"
    upload(local, ADDRESS)
    FlakyStore().pipe_file("/bucket/tokens/index.json", json.dumps({**index, "format": 1}).encode())
    with pytest.raises(UserError, match="token shards of format 1"):
        ShardReader([mirror()], "train")
    with pytest.raises(MachineError, match="Protocol not known"):
        mirror_tokens("nowhere://tokens", tmp_path / "mirror", settings(tmp_path), ["tokenizer"])
