"""The learning rate at the points where a mistake would show."""

from __future__ import annotations

from itertools import pairwise

import pytest

from vernacular.training.configuration import OptimiserConfiguration
from vernacular.training.schedule import learning_rate


def rates(steps: int, **settings: object) -> list[float]:
    configuration = OptimiserConfiguration(**settings)  # type: ignore[arg-type]
    return [learning_rate(configuration, step, steps) for step in range(steps)]


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    assert rates(100, learning_rate=1.0, warmup_steps=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_cosine_ends_at_the_final_rate_and_is_half_way_in_the_middle() -> None:
    values = rates(101, learning_rate=3e-4, final_learning_rate=3e-6)
    assert values[0] == pytest.approx(3e-4)
    assert values[50] == pytest.approx((3e-4 + 3e-6) / 2)
    assert values[-1] == pytest.approx(3e-6)
    assert all(later < earlier for earlier, later in pairwise(values))


def test_linear_and_constant() -> None:
    assert rates(5, learning_rate=4.0, schedule="linear") == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert set(rates(5, learning_rate=4.0, schedule="constant")) == {4.0}


def test_one_step_is_possible() -> None:
    assert rates(1, learning_rate=2.0) == [2.0]
