"""How sure a number is: standard errors and 95% intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_Z95 = 1.959963984540054


class Estimate(NamedTuple):
    """A value, its standard error, and its 95% interval. One item alone gives neither."""

    value: float
    stderr: float | None
    low: float | None
    high: float | None


def wilson(successes: float, n: int) -> tuple[float, float]:
    """95% interval of a share, which stays within [0, 1] and is right for small n too (Wilson 1927)."""
    share, spread = successes / n, _Z95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = _Z95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # At the ends the bounds are 0 and 1 exactly; in floating point they would miss them by a hair.
    return centre - half if successes > 0 else 0.0, centre + half if successes < n else 1.0


def share(values: Sequence[float]) -> Estimate:
    """Mean of values that are 0 or 1: standard error of a sample mean (as the harness has it), Wilson interval."""
    n = len(values)
    mean = sum(values) / n
    stderr = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n) if n > 1 else None
    return Estimate(mean, stderr, *wilson(sum(values), n))


def bootstrap(items: Sequence[Any], aggregate: Callable[[Any], float], *, resamples: int, seed: int) -> Estimate:
    """Any statistic of a list of items: percentile bootstrap (Efron 1979), the same for the same seed."""
    value = float(aggregate(items))
    if len(items) < 2:
        return Estimate(value, None, None, None)
    random = np.random.default_rng(seed)
    pool = _pool(items)
    values = np.array([aggregate(pool[random.integers(0, len(items), size=len(items))]) for _ in range(resamples)])
    low, high = np.percentile(values, (2.5, 97.5))
    return Estimate(value, float(values.std(ddof=1)), float(low), float(high))


def paired_bootstrap(
    first: Sequence[Any], second: Sequence[Any], aggregate: Callable[[Any], float], *, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    """95% interval of second less first: the same items are drawn again for both. One item alone gives none."""
    n = len(first)
    if n < 2:
        return None, None
    random = np.random.default_rng(seed)
    pools = _pool(first), _pool(second)
    drawn = []
    for _ in range(resamples):
        places = random.integers(0, n, size=n)
        drawn.append(aggregate(pools[1][places]) - aggregate(pools[0][places]))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _pool(items: Sequence[Any]) -> NDArray[Any]:
    """Items as an array whose rows are one item each: numbers, rows of numbers, or (for texts) objects."""
    first = items[0]
    if isinstance(first, str) or (isinstance(first, tuple) and isinstance(first[0], str)):
        pool = np.empty(len(items), dtype=object)
        for place, item in enumerate(items):
            pool[place] = item
        return pool
    return np.asarray(items, dtype=np.float64)
