"""Scaling: each feature is measured against what is usual in its language.

Words of Tamil are twice as long as words of Hindi; a mean of eight letters is a fault in one and prose in the other. So
a classifier sees how far a document lies from the middle of its own language's documents, in units of their spread, and
what it learns of damage in one language holds in the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vernacular.corpus.quality.features import NUM_FEATURES

_LOW, _HIGH = 10, 90  # percentiles; their distance is the spread
# A feature that is the same in nine documents of ten (no emoji, no broken characters) has no spread to divide by.
_LEAST_SPREAD = 1e-2
_NOTHING = 1e-9


@dataclass(frozen=True)
class Scaling:
    """By language, the middle and the spread of each feature (float32 [93] each)."""

    by_language: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def fit(cls, rows: np.ndarray, languages: np.ndarray, usual: np.ndarray) -> Scaling:
        """From the rows that are `usual`.

        Args:
            rows: float32 [E, 93].
            languages: str [E].
            usual: bool [E], documents as they are; damaged copies say nothing of what is usual.
        """
        return cls(
            {str(one): _middle_and_spread(rows[usual & (languages == one)]) for one in np.unique(languages[usual])}
        )

    def apply(self, rows: np.ndarray, languages: Sequence[str] | np.ndarray) -> np.ndarray:
        """float32 [E, 93]; a row in a language that was not there is NaN throughout."""
        scaled = np.full_like(rows, np.nan)
        named = np.asarray(languages, dtype=str)
        for language, (middle, spread) in self.by_language.items():
            mine = named == language
            scaled[mine] = (rows[mine] - middle) / spread
        return scaled

    def as_json(self) -> dict[str, Any]:
        """To be written down."""
        return {
            language: {"middle": middle.tolist(), "spread": spread.tolist()}
            for language, (middle, spread) in self.by_language.items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Scaling:
        """As written down."""
        return cls(
            {
                language: (np.array(one["middle"], dtype=np.float32), np.array(one["spread"], dtype=np.float32))
                for language, one in value.items()
            }
        )


def _middle_and_spread(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = np.zeros(NUM_FEATURES, dtype=np.float32)
    spread = np.full(NUM_FEATURES, _LEAST_SPREAD, dtype=np.float32)
    for place in range(NUM_FEATURES):
        values = rows[:, place][~np.isnan(rows[:, place])]
        if len(values):
            low, middle[place], high = np.percentile(values, (_LOW, 50, _HIGH))
            wide = high - low if high - low > _NOTHING else float(np.std(values))
            spread[place] = wide if wide > _NOTHING else _LEAST_SPREAD
    return middle, spread
