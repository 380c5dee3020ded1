"""The rules by which cards make one number of many, each a sentence of arithmetic on shares between 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Scored(NamedTuple):
    """A benchmark's score as a rule sees it.

    Attributes:
        share: the score; 1 is everything right. (MT-Bench: the judge's mean, on its own scale.)
        scale: what the card multiplies it by: 1, or 100 for percentages.
        baseline: the score of guessing, or of always the commonest answer.
        category: the group it is averaged in first; "" for none.
    """

    share: float
    scale: float = 1.0
    baseline: float = 0.0
    category: str = ""


def plain_mean(scores: Sequence[Scored]) -> float:
    """Mean of the numbers as printed, whatever their scales: Krutrim-1's average, Granite's (MT-Bench on 0-10)."""
    return _mean([score.share * score.scale for score in scores])


def normalised_mean(scores: Sequence[Scored]) -> float:
    """Mean of 100·(s-b)/(1-b), b being the baseline: the average of the Open PL LLM Leaderboard. Can be negative."""
    return _mean([100 * above_baseline(score) for score in scores])


def gauntlet(scores: Sequence[Scored]) -> float:
    """llm-foundry's core average: mean over the categories of the mean of (s-b)/(1-b) within each."""
    categories: dict[str, list[float]] = {}
    for score in scores:
        categories.setdefault(score.category, []).append(above_baseline(score))
    return _mean([_mean(values) for values in categories.values()])


def above_baseline(score: Scored) -> float:
    """(s-b)/(1-b): 0 for guessing, 1 for everything right."""
    return (score.share - score.baseline) / (1 - score.baseline)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


RULES: Mapping[str, Callable[[Sequence[Scored]], float]] = {
    "plain mean": plain_mean,
    "normalised mean": normalised_mean,
    "gauntlet": gauntlet,
}
