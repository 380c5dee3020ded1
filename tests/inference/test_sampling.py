"""Cut-offs keep what they say, draws follow the probabilities."""

from __future__ import annotations

import random

import pytest
import torch

from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import UserError
from vernacular.inference.sampling import choose, draw, probabilities
from vernacular.models.language_model import Sampling

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, 2.0]])


def kept(sampling: Sampling, logits: torch.Tensor = LOGITS) -> list[int]:
    return probabilities(logits, [sampling])[0].nonzero()[:, 0].tolist()


def test_top_k_keeps_the_best_and_their_equals() -> None:
    assert kept(Sampling(temperature=1, top_k=1)) == [0, 4]
    assert kept(Sampling(temperature=1, top_k=3)) == [0, 1, 4]
    assert kept(Sampling(temperature=1, top_k=99)) == [0, 1, 2, 3, 4]


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert kept(Sampling(temperature=1, top_p=0.45), logits) == [0]
    assert kept(Sampling(temperature=1, top_p=0.6), logits) == [0, 1]
    assert kept(Sampling(temperature=1, top_p=0.9), logits) == [0, 1, 2]
    assert kept(Sampling(temperature=1, top_p=1.0), logits) == [0, 1, 2, 3]
    assert kept(Sampling(temperature=1, top_p=1e-9), logits) == [0]


def test_temperature_comes_before_the_cut() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert kept(Sampling(temperature=0.2, top_p=0.9), logits) == [0]
    assert kept(Sampling(temperature=5, top_p=0.9), logits) == [0, 1, 2, 3]


def test_greedy_takes_the_first_of_equals() -> None:
    assert choose(LOGITS, [Sampling()], [random.Random(0)]).tolist() == [0]


def test_greedy_and_sampled_rows_share_a_batch() -> None:
    logits_BV = torch.randn(40, 300, generator=torch.Generator().manual_seed(0))
    samplings = [Sampling(temperature=row % 3 * 0.5, top_k=1 if row % 2 else None) for row in range(40)]
    tokens = choose(logits_BV, samplings, [random.Random(row) for row in range(40)])
    best = logits_BV.argmax(-1)
    certain = [row for row in range(40) if row % 3 == 0 or row % 2]
    assert tokens[certain].tolist() == best[certain].tolist()
    assert (tokens != best).sum() > 5


@pytest.mark.parametrize("chance", [0.0, 0.5, 1 - 2**-53])
def test_what_has_no_probability_is_never_drawn(chance: float) -> None:
    probabilities_BV = torch.tensor([[0.0, 0.1, 0.0, 0.2, 0.7, 0.0]])
    assert probabilities_BV[0, draw(probabilities_BV, [chance])] > 0


def test_draws_follow_the_probabilities() -> None:
    probabilities_BV = torch.tensor([[0.5, 0.0, 0.3, 0.15, 0.05]])
    numbers = random.Random(1)
    tokens = draw(probabilities_BV.expand(20_000, -1), [numbers.random() for _ in range(20_000)])
    shares = tokens.bincount(minlength=5) / 20_000
    # Four standard errors of the largest share.
    assert (shares - probabilities_BV[0]).abs().max() < 4 * (0.25 / 20_000) ** 0.5


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-38, 9e-7, 1e-6])
def test_the_smallest_temperatures_take_the_best_scored_token(temperature: float) -> None:
    logits_BV = torch.tensor([[1.0, 30.0, -5e5, 0.0], [-3e30, -torch.inf, -2e30, -4e30]])
    tokens_B = choose(logits_BV, [Sampling(temperature=temperature)] * 2, [random.Random(0), random.Random(1)])
    assert tokens_B.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("temperature", 1e308),
        ("temperature", "0.5"),
        ("temperature", True),
        ("repetition_penalty", 1e40),
        ("repetition_penalty", 1e-40),
        ("repetition_penalty", float("inf")),
        ("top_p", float("nan")),
        ("min_p", float("nan")),
        ("top_k", True),
        ("top_k", "3"),
        ("max_new_tokens", 3.0),
        ("seed", -1),
        ("seed", False),
        ("log_probabilities", True),
    ],
)
def test_settings_that_mean_nothing_are_refused(name: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        validate(Sampling, {name: value})
    assert caught.value.where == name


@pytest.mark.parametrize("value", [0.01, 100])
def test_the_strongest_settings_still_draw(value: float) -> None:
    sampling = Sampling(temperature=max(value, 1e-6), repetition_penalty=value, top_p=0.9, min_p=0.1)
    assert probabilities(LOGITS, [sampling]).isfinite().all()
