"""Intervals against published values and their own definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vernacular.evaluation.statistics import bootstrap, share, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_published_values(successes, n, low, high) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-5)


@given(n=st.integers(1, 3000), data=st.data())
def test_wilson_holds_the_share_and_stays_within_bounds(n, data) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert (low == 0) == (successes == 0)
    assert (high == 1) == (successes == n)


def test_one_item_has_no_standard_error() -> None:
    assert share([1.0]).stderr is None
    assert bootstrap([3.0], np.mean, resamples=100, seed=0) == (3.0, None, None, None)


def test_the_bootstrap_finds_the_standard_error_of_a_mean() -> None:
    values = np.random.default_rng(7).normal(size=400).tolist()
    estimate = bootstrap(values, np.mean, resamples=2000, seed=1)
    assert estimate.stderr == pytest.approx(np.std(values, ddof=1) / 20, rel=0.05)
    assert estimate == bootstrap(values, np.mean, resamples=2000, seed=1)
    assert estimate != bootstrap(values, np.mean, resamples=2000, seed=2)
    assert estimate.low < estimate.value < estimate.high


def test_the_bootstrap_draws_texts_too() -> None:
    pairs = [("कल", "कल"), ("łódź", "łódka"), ("tea", "sea")]
    estimate = bootstrap(pairs, lambda drawn: sum(a == b for a, b in drawn) / 3, resamples=200, seed=0)
    assert estimate.value == pytest.approx(1 / 3)
    assert 0 <= estimate.low <= estimate.high <= 1
