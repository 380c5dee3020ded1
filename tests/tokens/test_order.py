"""The order is a function of seed and step: each row once an epoch, the same for every number of ranks."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.foundation.errors import UserError
from vernacular.tokens.order import Order

property_settings = settings(max_examples=50, deadline=None, derandomize=True)
seeds = st.integers(-(2**40), 2**70)


@property_settings
@given(num_rows=st.integers(1, 400), batch_size=st.integers(1, 80), seed=seeds, epoch=st.integers(0, 3))
def test_each_row_comes_once_an_epoch(num_rows: int, batch_size: int, seed: int, epoch: int) -> None:
    order = Order(num_rows, batch_size, seed)
    first, last = epoch * num_rows, (epoch + 1) * num_rows
    steps = range(first // batch_size, -(-last // batch_size))
    rows = [row for step in steps for row in order.indices(step)]
    offset = first - steps[0] * batch_size
    assert sorted(rows[offset : offset + num_rows]) == list(range(num_rows))


@property_settings
@given(num_rows=st.integers(1, 10**12), share=st.integers(1, 6), world=st.integers(1, 12), step=st.integers(0, 10**6))
def test_ranks_share_out_the_global_batch(num_rows: int, share: int, world: int, step: int) -> None:
    order = Order(num_rows, share * world, seed=7)
    whole = order.indices(step)
    assert [row for rank in range(world) for row in order.indices(step, rank, world)] == whole
    assert whole == Order(num_rows, share * world, seed=7).indices(step)  # nothing is remembered
    assert all(0 <= row < num_rows for row in whole)


def test_seed_and_epoch_change_the_order() -> None:
    epochs = [Order(1000, 1000, seed).indices(step) for seed in (1, 2) for step in (0, 1)]
    for number, one in enumerate(epochs):
        for other in epochs[:number]:
            assert sum(a == b for a, b in zip(one, other, strict=True)) < 15  # about one place in 1000 by chance


def test_the_order_looks_random() -> None:
    rows = Order(10_000, 10_000, seed=3).indices(0)
    halves = sum(row < 5000 for row in rows[:5000])
    assert abs(halves - 2500) < 150
    neighbours = sum(abs(a - b) <= 10 for a, b in pairwise(rows))
    assert neighbours < 60  # about 20 by chance


def test_the_order_is_kept_between_versions() -> None:
    assert Order(10, 4, seed=1).indices(0) == [0, 3, 9, 2]
    assert Order(10**9, 3, seed=42).indices(123_456) == [542112569, 503574752, 248684054]


def test_a_trillion_rows_cost_no_more_than_ten() -> None:
    started = time.perf_counter()
    rows = Order(10**12, 1024, seed=0).indices(10**9)
    assert len(set(rows)) == 1024
    assert time.perf_counter() - started < 1


def test_what_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be shared out evenly among 3 ranks"):
        Order(10, 4, seed=0).indices(0, rank=0, world=3)
    with pytest.raises(UserError, match="num_rows is 0"):
        Order(0, 4, seed=0)


def test_epochs_are_counted() -> None:
    assert Order(10, 4, seed=0).epoch(5) == 2.0
