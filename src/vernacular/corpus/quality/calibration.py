"""Calibration: scores become probabilities that hold: of the documents given 0.9, nine in ten are of the grade.

Isotonic: one monotone step function a grade (Zadrozny and Elkan 2002), the results scaled to sum to one. Temperature:
one number that all scores are divided by (Guo et al. 2017), for few labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize

from vernacular.foundation.errors import UserError

_LOWEST = 1e-6


@dataclass(frozen=True)
class Calibration:
    """What was fitted.

    Attributes:
        temperature: what scores are divided by before they become probabilities.
        steps: per grade the probabilities before (ascending) and after; empty without isotonic regression.
    """

    temperature: float
    steps: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """float64 [D, G]: probabilities, from scores [D, G] (margins: logarithms up to a constant)."""
        probabilities = softmax(scores / self.temperature)
        if not self.steps:
            return probabilities
        columns = [np.interp(probabilities[:, grade], *step) for grade, step in enumerate(self.steps)]
        mapped = np.maximum(np.stack(columns, axis=1), _LOWEST)
        return mapped / mapped.sum(axis=1, keepdims=True)

    def as_json(self) -> dict[str, Any]:
        """To be written down."""
        return {"temperature": self.temperature, "steps": [[list(before), list(after)] for before, after in self.steps]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Calibration:
        """As written down."""
        return cls(value["temperature"], tuple((tuple(before), tuple(after)) for before, after in value["steps"]))


def softmax(scores: np.ndarray) -> np.ndarray:
    """float64 [D, G]."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit(scores: np.ndarray, grades: np.ndarray, weights: np.ndarray, way: str) -> Calibration:
    """Fit on documents that the classifier behind the scores did not see.

    Args:
        scores: float [D, G], margins.
        grades: int [D], the right ones.
        weights: float [D].
        way: "isotonic" or "temperature".

    Raises:
        UserError: all have the same grade.
    """
    if len(set(grades.tolist())) == 1:
        raise UserError("all documents have the same grade; nothing can be calibrated", where="labels")
    if way == "temperature":
        return Calibration(_temperature(scores, grades, weights))
    probabilities = softmax(scores)
    return Calibration(
        1.0, tuple(_steps(probabilities[:, grade], grades == grade, weights) for grade in range(scores.shape[1]))
    )


def _temperature(scores: np.ndarray, grades: np.ndarray, weights: np.ndarray) -> float:
    def loss(logarithm: float) -> float:
        chosen = softmax(scores / np.exp(logarithm))[np.arange(len(grades)), grades]
        return float(-(weights * np.log(np.maximum(chosen, _LOWEST))).sum())

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def _steps(before: np.ndarray, right: np.ndarray, weights: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The corners of the monotone function from probabilities before to the shares that were right."""
    values, inverse = np.unique(before, return_inverse=True)
    weight = np.bincount(inverse, weights=weights)
    shares = np.bincount(inverse, weights=weights * right) / weight
    fitted = scipy.optimize.isotonic_regression(shares, weights=weight).x
    corner = np.ones(len(values), dtype=bool)
    corner[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    return tuple(values[corner].tolist()), tuple(fitted[corner].tolist())
