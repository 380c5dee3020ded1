"""The learning rate at the points where a mistake would show, and against transformers' schedules."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from vernacular.training.optimisation import OptimiserConfiguration, PowerConfiguration
from vernacular.training.schedule import Course, adapted, learning_rate, power_rate

WSD: dict[str, Any] = {"learning_rate": 0.5, "schedule": "warmup-stable-decay", "warmup_steps": 4}
# Granite 3.0 (its report): batches of 1024 rows of 4096 tokens, a cap of 0.02.
GRANITE: dict[str, Any] = {"learning_rate": 0.02, "schedule": "power", "warmup_steps": 2500}
BATCH_ROWS, BATCH_TOKENS = 1024, 1024 * 4096


def rates(steps: int, **settings: Any) -> list[float]:
    configuration = OptimiserConfiguration(**settings)
    return [learning_rate(configuration, step, Course(steps)) for step in range(steps)]


def published(name: str, steps: int, **options: Any) -> list[float]:
    """The rates of a schedule of transformers whose peak is 0.5. It counts steps that are done; ours, the next one."""
    import transformers

    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = getattr(transformers, name)(optimiser, **options)
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        optimiser.step()
        scheduler.step()
    return found


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    assert rates(100, learning_rate=1.0, warmup_steps=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_second_warm_up_rises_from_the_floor_of_the_first() -> None:
    values = rates(100, learning_rate=1.0, warmup_from=0.2, warmup_steps=4, final_learning_rate=0.2)
    assert values[:4] == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert values[-1] == pytest.approx(0.2)


def test_cosine_ends_at_the_final_rate_and_is_half_way_in_the_middle() -> None:
    values = rates(101, learning_rate=3e-4, final_learning_rate=3e-6)
    assert values[0] == pytest.approx(3e-4)
    assert values[50] == pytest.approx((3e-4 + 3e-6) / 2)
    assert values[-1] == pytest.approx(3e-6)
    assert all(later < earlier for earlier, later in pairwise(values))


def test_cosine_linear_and_inverse_root_are_those_of_transformers() -> None:
    # Ours reach their last value at the last step, theirs one after it; ours waste no first step on a rate of 0.
    names = {"cosine": "get_cosine_schedule_with_warmup", "linear": "get_linear_schedule_with_warmup"}
    for schedule, name in names.items():
        theirs = published(name, 61, num_warmup_steps=10, num_training_steps=60)
        assert rates(61, learning_rate=0.5, schedule=schedule, warmup_steps=10)[10:] == pytest.approx(theirs[10:])
    theirs = published("get_inverse_sqrt_schedule", 61, num_warmup_steps=10)
    assert rates(60, learning_rate=0.5, schedule="inverse-sqrt", warmup_steps=10) == pytest.approx(theirs[1:])


@pytest.mark.parametrize("form", ["linear", "1-sqrt"])
def test_warm_up_stable_decay_is_that_of_transformers(form: str) -> None:
    ours = rates(40, **WSD, final_learning_rate=0.05, decay={"fraction": 0.25, "form": form})
    theirs = published(
        "get_wsd_schedule", 41, num_warmup_steps=4, num_stable_steps=26, num_decay_steps=10, decay_type=form,
        min_lr_ratio=0.1,
    )  # fmt: skip
    assert ours[3:] == pytest.approx(theirs[4:])
    assert ours[-1] == pytest.approx(0.05)


def test_an_exponential_decay_falls_by_the_same_factor_at_each_step() -> None:
    values = rates(40, **WSD, final_learning_rate=0.005, decay={"fraction": 0.25})
    assert values[4:30] == [0.5] * 26
    assert values[-1] == pytest.approx(0.005)
    assert [later / earlier for earlier, later in pairwise(values[29:])] == pytest.approx([10**-0.2] * 10)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(1e11, 0.010054), (1e12, 0.003107), (8e12, 0.001076), (1e13, 0.000960)]
)
def test_the_power_schedule_has_granites_values(tokens: float, expected: float) -> None:
    assert power_rate(PowerConfiguration(), tokens, BATCH_ROWS) == pytest.approx(expected, abs=5e-7)
    configuration = OptimiserConfiguration(**GRANITE)
    course = Course(2_384_186, BATCH_ROWS, BATCH_TOKENS)
    assert learning_rate(configuration, round(tokens / BATCH_TOKENS) - 1, course) == pytest.approx(expected, rel=1e-3)


def test_the_power_schedule_is_capped_warmed_up_and_ends_low() -> None:
    configuration = OptimiserConfiguration(**GRANITE, final_learning_rate=1e-5, decay={"fraction": 0.1})
    course = Course(100_000, BATCH_ROWS, BATCH_TOKENS)
    capped = int(2.596e10 / BATCH_TOKENS)
    assert learning_rate(configuration, 1249, course) == pytest.approx(0.01)
    assert learning_rate(configuration, capped - 3, course) == 0.02
    assert learning_rate(configuration, capped + 3, course) < 0.02
    undecayed = power_rate(PowerConfiguration(), 90_000 * BATCH_TOKENS, BATCH_ROWS)
    assert learning_rate(configuration, 89_999, course) == pytest.approx(undecayed)
    assert learning_rate(configuration, 95_000, course) < 0.1 * undecayed
    assert learning_rate(configuration, 99_999, course) == pytest.approx(1e-5)


def test_bieliks_rate_follows_the_root_of_the_tokens_that_are_learned_from() -> None:
    assert adapted(7e-6, loss_tokens=1024, batch_tokens=4096) == pytest.approx(3.5e-6)
    assert adapted(7e-6, loss_tokens=4096, batch_tokens=4096) == 7e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_from": 0.1}, "set warmup_steps"),
        ({"warmup_from": 2.0, "warmup_steps": 3}, "above learning_rate"),
        ({"decay": {}}, "decay belongs to"),
        ({"schedule": "warmup-stable-decay"}, "needs decay"),
        ({"schedule": "constant", "final_learning_rate": 0.1}, "never reaches final_learning_rate"),
        ({"schedule": "power", "decay": {}}, "an exponential never falls to 0"),
        ({"name": "muon", "mup": {}}, "remove mup"),
        ({"muon": {"momentum": 0.9}}, "muon belongs to name: muon; the optimiser is adamw"),
        ({"power": {"amplitude": 0.5}}, "power belongs to schedule: power; the schedule is cosine"),
    ],
)
def test_settings_that_say_nothing_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimiserConfiguration(learning_rate=1.0, **settings)


def test_linear_and_constant() -> None:
    assert rates(5, learning_rate=4.0, schedule="linear") == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert set(rates(5, learning_rate=4.0, schedule="constant")) == {4.0}


def test_one_step_is_possible() -> None:
    assert rates(1, learning_rate=2.0) == [2.0]
