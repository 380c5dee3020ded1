"""Calibrating identification: what each language's score and certainty are worth, learnt from labelled sentences.

A language model for identification is surer of some languages than it should be, and mistakes close ones for each other
always in the same direction. One temperature, and one shift a language, mend that (vector scaling: Guo et al. 2017,
arXiv:1706.04599, section 4.2, with a single temperature); then each language gets the least probability at which it is
right nearly always, sentences in languages that the model does not have among what it may be wrong about. The figures
are `data/calibration.yaml`; `vernacular fit-languages` makes them anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import scipy.optimize
import yaml

# At or above its threshold a language is right so often, where a sentence in a language that the model does not have
# counts a quarter: there are more of them in the UDHR than in any corpus. But so many of its own sentences it keeps,
# however much it looks like an unknown one. A threshold never falls below the least, nor rises above the highest.
_PRECISION, _OF_UNKNOWN = 0.98, 0.25
_RECALL = 0.985
_LEAST, _HIGHEST = 0.12, 0.95
# What a language of n sentences weighs in the fit: n^(1 - 0.75), between all languages alike and all sentences alike.
_EVENNESS = 0.75
_DECAY = 1e-3
_FEWEST_SENTENCES = 20


@dataclass(frozen=True)
class Calibration:
    """How to read the scores of identification.

    Attributes:
        temperature: scores are divided by it.
        shifts: language → what is added to its score then.
        thresholds: language → probability below which a document in it is undecided.
        otherwise: the threshold of every other language.
    """

    temperature: float
    shifts: dict[str, float]
    thresholds: dict[str, float]
    otherwise: float

    def apply(self, scores: np.ndarray, languages: Sequence[str]) -> np.ndarray:
        """Scores [D, K] as they are to be read."""
        shifts = np.array([self.shifts.get(language, 0.0) for language in languages], dtype=np.float32)
        return scores / np.float32(self.temperature) + shifts

    def threshold(self, language: str) -> float:
        """The probability below which a document in this language is undecided."""
        return self.thresholds.get(language, self.otherwise)


@cache
def calibration() -> Calibration:
    """The figures of `data/calibration.yaml`."""
    value = yaml.safe_load(files("vernacular.corpus").joinpath("data", "calibration.yaml").read_text(encoding="utf-8"))
    return Calibration(value["temperature"], value["shifts"], value["thresholds"], value["otherwise"])


def fit(scores: np.ndarray, languages: Sequence[str], truth: Sequence[str]) -> Calibration:
    """Fit to labelled sentences; languages of fewer than twenty are left as they are.

    Args:
        scores: float [D, K], log-odds, impossible languages at -inf.
        languages: the K languages.
        truth: the language of each sentence; those in a language that the model does not have raise thresholds only.
    """
    places = {language: place for place, language in enumerate(languages)}
    targets = np.array([places.get(language, -1) for language in truth])
    # What the script rules out cannot be right, whatever the figures.
    known = (targets >= 0) & np.isfinite(scores[np.arange(len(targets)), targets])
    everything = np.where(np.isfinite(scores), scores, -1e3)
    truly = np.where(known, targets, -1)
    finite, targets = everything[known].astype(np.float64), targets[known]
    sizes = np.bincount(targets, minlength=len(languages))
    weights = sizes[targets] ** -_EVENNESS
    weights /= weights.sum()
    movable = sizes >= _FEWEST_SENTENCES

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, shifts = np.exp(parameters[0]), np.zeros(len(languages))
        shifts[movable] = parameters[1:]
        read = finite * scale + shifts
        read -= read.max(axis=1, keepdims=True)
        logs = read - np.log(np.exp(read).sum(axis=1, keepdims=True))
        residual = np.exp(logs)
        residual[np.arange(len(targets)), targets] -= 1
        residual *= weights[:, None]
        gradient = np.concatenate([[(residual * finite).sum() * scale], residual.sum(axis=0)[movable]])
        gradient[1:] += 2 * _DECAY * parameters[1:] / movable.sum()
        value = -(weights * logs[np.arange(len(targets)), targets]).sum()
        return float(value + _DECAY * (parameters[1:] ** 2).sum() / movable.sum()), gradient

    start = np.zeros(1 + int(movable.sum()))
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 150}).x
    shifts = {
        languages[int(place)]: round(float(shift), 3)
        for place, shift in zip(np.flatnonzero(movable), found[1:], strict=True)
    }
    fitted = Calibration(round(float(np.exp(-found[0])), 4), shifts, {}, 0.0)
    read = fitted.apply(everything.astype(np.float32), languages)
    return Calibration(fitted.temperature, shifts, *_thresholds(read, languages, truly))


def _thresholds(read: np.ndarray, languages: Sequence[str], targets: np.ndarray) -> tuple[dict[str, float], float]:
    """Of scores [D, K] as they are read; a target of -1 is a language that the model does not have."""
    probabilities = np.exp(read - read.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    best = probabilities.argmax(axis=1)
    certainty = probabilities[np.arange(len(best)), best]
    right, weights = targets == best, np.where(targets >= 0, 1.0, _OF_UNKNOWN)
    thresholds = {}
    for place, language in enumerate(languages):
        mine = best == place
        if mine.sum() >= _FEWEST_SENTENCES:
            thresholds[language] = _threshold(certainty[mine], right[mine], weights[mine])
    return thresholds, _threshold(certainty, right, weights)


def _threshold(certainty: np.ndarray, right: np.ndarray, weights: np.ndarray) -> float:
    """The least certainty from which on the share of right ones is as high as it should be, or that keeps enough."""
    order = np.argsort(-certainty)
    shares = np.cumsum((right * weights)[order]) / np.cumsum(weights[order])
    enough = np.flatnonzero(shares >= _PRECISION)
    least = certainty[order][enough[-1]] if len(enough) else 1.0
    own = np.sort(certainty[right])
    if len(own) >= _FEWEST_SENTENCES:
        least = min(least, own[int((1 - _RECALL) * len(own))])
    return round(float(np.clip(least, _LEAST, _HIGHEST)), 3)
