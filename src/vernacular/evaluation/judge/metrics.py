"""Numbers from verdicts: of an item's rows, one a turn, each with its verdicts in `facts`. What is missing counts not.

`facts` of a turn: `grades`, one for each run, null where the judge gave none; and where another model's answers were
compared with, `pairs`, for each run the decision with our answer first and with it second: "A", "B", "C" or null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from vernacular.evaluation.metrics.metric import Metric, Options
from vernacular.evaluation.records import Row

_POINTS = {("A", "B"): 1.0, ("B", "A"): 0.0}
"""Both orders prefer us, or the other; whatever else is a tie, as FastChat has it."""


def _of_turns(rows: Sequence[Row], key: str, turn: int | None = None) -> list[Any]:
    found = []
    for row in rows:
        if turn is None or row["request"] == turn:
            found += json.loads(row["facts"] or "{}").get(key, [])
    return found


def _mean_or_nan(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _grade(turn: int | None) -> Callable[[Sequence[Row], Options], float]:
    """The mean grade of an item; nan where any of its answers has none, for the turns differ in difficulty."""

    def of_item(rows: Sequence[Row], options: Options) -> float:
        own = [row for row in rows if turn is None or row["request"] == turn]
        grades = [[one for one in _of_turns([row], "grades") if one is not None] for row in own]
        return _mean_or_nan([_mean_or_nan(of_turn) for of_turn in grades])

    return of_item


def _agreement(rows: Sequence[Row], options: Options) -> float:
    """Share of pairs of runs that give an answer the same grade."""
    same = []
    for row in rows:
        grades = [one for one in _of_turns([row], "grades") if one is not None]
        same += [float(one == other) for one, other in combinations(grades, 2)]
    return _mean_or_nan(same)


def _spread(rows: Sequence[Row], options: Options) -> float:
    """Mean standard deviation of an answer's grades over the runs."""
    grades = [[one for one in _of_turns([row], "grades") if one is not None] for row in rows]
    return _mean_or_nan([float(np.std(of_turn, ddof=1)) for of_turn in grades if len(of_turn) > 1])


def _pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(first, second) for first, second in _of_turns(rows, "pairs") if first is not None and second is not None]


def _win(rows: Sequence[Row], options: Options) -> float:
    return _mean_or_nan([_POINTS.get(pair, 0.5) for pair in _pairs(rows)])


def _consistent(rows: Sequence[Row], options: Options) -> float:
    return _mean_or_nan([float(pair in (("A", "B"), ("B", "A"), ("C", "C"))) for pair in _pairs(rows)])


def _first(rows: Sequence[Row], options: Options) -> float:
    """Of decisions for one of the two, the share for the one that stands first."""
    return _mean_or_nan([float(one == "A") for pair in _pairs(rows) for one in pair if one != "C"])


def _known_mean(values: Sequence[float]) -> float:
    """Mean of the items that have a value."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else math.nan


JUDGE_METRICS: Mapping[str, Metric] = {
    "judge": Metric(_grade(None), _known_mean, "known_mean", False, True),
    "judge_turn_1": Metric(_grade(0), _known_mean, "known_mean", False, True),
    "judge_turn_2": Metric(_grade(1), _known_mean, "known_mean", False, True),
    "judge_agreement": Metric(_agreement, _known_mean, "known_mean", False, True),
    "judge_spread": Metric(_spread, _known_mean, "known_mean", False, False),
    "win_rate": Metric(_win, _known_mean, "known_mean", False, True),
    "order_consistency": Metric(_consistent, _known_mean, "known_mean", False, True),
    "first_preferred": Metric(_first, _known_mean, "known_mean", False, False),
}
"""Grades from 1 to 10: `judge` over both turns, by turn, and how far the runs agree. Against another model's answers:
`win_rate` (a tie is half), `order_consistency` (both orders say the same), and `first_preferred`, 0.5 without bias."""

OF_GRADES = ("judge", "judge_turn_1", "judge_turn_2")
OF_RUNS = ("judge_agreement", "judge_spread")
OF_PAIRS = ("win_rate", "order_consistency", "first_preferred")
