"""Outliers: rows of features that no sound document has, so that damage of a kind nobody thought of is noticed too.

Trees look only at what parted the grades in training: of a feature that no known damage moves they learn nothing,
and let an unknown kind pass that moves it. So sound rows are repeated with a few features pushed past the range of
the sound documents of training, and called damaged. (After artificial outliers in one-class learning: Hempstalk,
Frank and Witten 2008.)
"""

from __future__ import annotations

import numpy as np

_RANGE = (0.5, 99.5)  # percentiles
_MOST_FEATURES = 4
_SHARE_ABOVE = 0.75  # damage adds more than it takes away
_STEP_ABOVE, _STEP_BELOW = 0.7, 0.3  # mean step past the range, in ranges
_LEAST = 1e-3


def outliers(rows: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Rows with one to four features past the range of the others.

    Args:
        rows: float32 [D, F], scaled features of sound documents; a feature that is null in all of them stays so.
        number: how many.
        seed: decides everything.

    Returns:
        float32 [number, F].
    """
    random = np.random.default_rng(seed)
    there = np.flatnonzero(~np.isnan(rows).all(axis=0))
    low, high = np.nanpercentile(rows[:, there], _RANGE, axis=0)
    width = np.maximum(high - low, _LEAST)
    made = rows[random.integers(0, len(rows), number)].copy()
    for row in made:
        chosen = random.choice(len(there), random.integers(1, _MOST_FEATURES + 1), replace=False)
        above = high[chosen] + width[chosen] * random.exponential(_STEP_ABOVE, len(chosen)) + _LEAST
        below = low[chosen] - width[chosen] * random.exponential(_STEP_BELOW, len(chosen)) - _LEAST
        pushed = np.where(random.random(len(chosen)) < _SHARE_ABOVE, above, below)
        moved = ~np.isnan(row[there[chosen]])
        row[there[chosen][moved]] = pushed[moved]
    return made
