"""What a metric is: a value for each item, from its rows of the record, and one number over the items' values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vernacular.evaluation.records import Row

Options = Mapping[str, Any]


class Metric(NamedTuple):
    """A metric of one kind of task.

    Attributes:
        of_item: the item's value, from its rows and the task's options for the metric.
        aggregate: the task's value, from its items'.
        aggregation: what the harness calls this aggregate.
        is_share: whether items are 0 or 1, so that the value is a share of them.
        higher_is_better: which way is up.
    """

    of_item: Callable[[Sequence[Row], Options], Any]
    aggregate: Callable[[Sequence[Any]], float]
    aggregation: str
    is_share: bool
    higher_is_better: bool


def mean(values: Sequence[float]) -> float:
    """Plain mean."""
    return float(np.mean(values))


def argmax(values: Sequence[float]) -> int:
    """Place of the largest value; of the first where there are several."""
    return max(range(len(values)), key=values.__getitem__)
