"""Epochs shuffled in windows of shards: every row once, few shards at a time, the same for every number of ranks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.foundation.errors import UserError
from vernacular.tokens.epochs import WholeEpochs, WindowedEpochs
from vernacular.tokens.order import Order

property_settings = settings(max_examples=50, deadline=None, derandomize=True)
KEY = (5, 11)


def rows_of(epochs: WindowedEpochs, first: int, stop: int) -> list[int]:
    return epochs.rows_at(np.arange(first, stop, dtype=np.uint64), KEY).tolist()


def shards_of(rows: Sequence[int], rows_of_shard: Sequence[int]) -> list[int]:
    starts = [0, *accumulate(rows_of_shard)]
    return [bisect_right(starts, row) - 1 for row in rows]


shards = st.lists(st.integers(0, 12), min_size=1, max_size=14).filter(any)


@property_settings
@given(rows_of_shard=shards, window=st.integers(1, 16), epoch=st.integers(0, 5))
def test_each_row_comes_once_an_epoch_and_its_shard_is_one_of_the_window(
    rows_of_shard: list[int], window: int, epoch: int
) -> None:
    epochs = WindowedEpochs(rows_of_shard, window)
    first, stop = epoch * epochs.num_rows, (epoch + 1) * epochs.num_rows
    rows = rows_of(epochs, first, stop)
    assert sorted(rows) == list(range(epochs.num_rows))
    for place, shard in zip(range(first, stop), shards_of(rows, rows_of_shard), strict=True):
        now, _ = epochs.upcoming(place, KEY)
        assert shard in now
        assert len(now) <= window


@property_settings
@given(rows_of_shard=shards, window=st.integers(1, 5))
def test_what_comes_next_is_known_while_a_window_is_read(rows_of_shard: list[int], window: int) -> None:
    epochs = WindowedEpochs([rows + 1 for rows in rows_of_shard], window)
    now, coming = epochs.upcoming(0, KEY)
    for place in range(2 * epochs.num_rows):
        found, after = epochs.upcoming(place, KEY)
        assert found in (now, coming)
        now, coming = found, after


@property_settings
@given(
    rows_of_shard=shards,
    window=st.integers(1, 5),
    share=st.integers(1, 6),
    world=st.sampled_from([1, 2, 4]),
    step=st.integers(0, 10**6),
)
def test_ranks_share_out_the_global_batch(
    rows_of_shard: list[int], window: int, share: int, world: int, step: int
) -> None:
    def order() -> Order:  # nothing is remembered
        epochs = WindowedEpochs(rows_of_shard, window)
        return Order(epochs.num_rows, share * world, 7, epochs)

    whole = order().indices(step)
    assert [row for rank in range(world) for row in order().indices(step, rank, world)] == whole


def test_an_epoch_shuffles_the_shards_and_the_rows_of_a_window() -> None:
    epochs = WindowedEpochs([100] * 12, 3)
    first, second = (rows_of(epochs, start, start + 1200) for start in (0, 1200))
    windows = [
        [set(shards_of(rows[at : at + 300], [100] * 12)) for at in range(0, 1200, 300)] for rows in (first, second)
    ]
    assert all(len(window) == 3 for epoch in windows for window in epoch)
    assert windows[0] != windows[1]
    halves = sum(shard in sorted(windows[0][0])[:1] for shard in shards_of(first[:150], [100] * 12))
    assert 30 < halves < 70  # about 50 by chance: the three shards of a window are read together


def test_windows_are_of_even_size() -> None:
    epochs = WindowedEpochs([10] * 9, 8)
    assert sorted(len(epochs.upcoming(place, KEY)[0]) for place in (0, 89)) == [4, 5]


def test_the_order_is_kept_between_versions() -> None:
    assert rows_of(WindowedEpochs([3, 4, 2, 5], 2), 0, 14) == [10, 13, 12, 0, 11, 9, 2, 1, 4, 7, 8, 6, 3, 5]
    assert WholeEpochs(10).rows_at(np.arange(4, dtype=np.uint64), (1,)).tolist() == [0, 3, 9, 2]


def test_a_million_shards_are_no_burden() -> None:
    epochs = WindowedEpochs([16384] * 1_000_000, 64)
    (row,) = rows_of(epochs, 10**12, 10**12 + 1)
    assert row // 16384 in epochs.upcoming(10**12, KEY)[0]


def test_room_is_asked_for_two_windows_of_the_largest_shards() -> None:
    assert WindowedEpochs([1] * 5, 2).bytes_needed([9, 1, 5, 3, 7]) == 24
    assert WholeEpochs(5, 5).bytes_needed([9, 1, 5, 3, 7]) == 25
    with pytest.raises(UserError, match="holds none"):
        WindowedEpochs([1], 0)
