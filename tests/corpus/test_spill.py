"""Hashes that do not fit into memory come back sorted, whatever they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vernacular.corpus.configuration import Engine
from vernacular.corpus.spill import Spill, sorted_entries

HASHES = st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 2, 2**64 - 1]), max_size=300)


def _sorted(folder: Path, hashes: list[int], count: int) -> list[tuple[int, int]]:
    for stale in folder.iterdir():
        stale.unlink()
    spill = Spill(folder, count)
    middle = len(hashes) // 2
    for begin, end in ((0, middle), (middle, len(hashes))):
        spill.add(np.array(hashes[begin:end], dtype=np.uint64), np.arange(begin, end))
    pairs = [zip(*(array.tolist() for array in both), strict=True) for both in sorted_entries(folder, "sorting")]
    return [pair for each in pairs for pair in each]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HASHES, st.sampled_from([1, 2, 7]))
def test_entries_come_by_their_hashes(tmp_path: Path, hashes: list[int], count: int) -> None:
    assert _sorted(tmp_path, hashes, count) == sorted(zip(hashes, range(len(hashes)), strict=True))


@pytest.mark.parametrize("bits", [64, 40, 3])
def test_many_entries(tmp_path: Path, bits: int) -> None:
    hashes = (np.random.default_rng(0).integers(0, 2**64, 50_000, dtype=np.uint64) >> np.uint64(64 - bits)).tolist()
    assert _sorted(tmp_path, hashes, 3) == sorted(zip(hashes, range(len(hashes)), strict=True))


def test_files_are_small_enough_for_memory(tmp_path: Path) -> None:
    assert Spill.planned(tmp_path, 10**6, Engine(memory="64MB")).count == 10**6 * 64 // (64 * 10**6 // 32) + 1
