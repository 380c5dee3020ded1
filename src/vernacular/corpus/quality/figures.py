"""How good a classifier is: by grade, by language, by kind of damage, and what each threshold keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vernacular.corpus.quality.configuration import GRADES

THRESHOLDS = (*(round(0.05 * step, 2) for step in range(20)), 0.97, 0.98, 0.99)
_BINS = 10
_HIGH, _MEDIUM = 0, 1
_HALF = 0.5


def grade_figures(right: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    """Precision, recall and F1 of each grade, and their mean; a grade that neither has is left out.

    Args:
        right: int [D], places in `GRADES`.
        found: int [D].
    """
    figures: dict[str, Any] = {}
    for place, grade in enumerate(GRADES):
        if not (np.any(right == place) or np.any(found == place)):
            continue
        figures[grade] = {"documents": int(np.sum(right == place)), **_scores(right == place, found == place)}
    return {
        "grades": figures,
        "macro_f1": float(np.mean([one["f1"] for one in figures.values()])),
        "accuracy": float(np.mean(right == found)),
        "confusion": [
            [int(np.sum((right == row) & (found == column))) for column in range(len(GRADES))]
            for row in range(len(GRADES))
        ],
    }


def damage_figures(right: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Sound or not: F1 of each, and their mean; among all, and with MEDIUM left out.

    Args:
        right: int [D], places in `GRADES`; HIGH is sound.
        probability: float [D], of HIGH; a document above one half is called sound.
    """
    sound, called, clear = right == _HIGH, probability > _HALF, right != _MEDIUM
    return {**_sound_or_not(sound, called), "clear_macro_f1": _sound_or_not(sound[clear], called[clear])["macro_f1"]}


def _sound_or_not(sound: np.ndarray, called: np.ndarray) -> dict[str, float]:
    first, second = _scores(sound, called)["f1"], _scores(~sound, ~called)["f1"]
    return {"macro_f1": (first + second) / 2, "sound_f1": first, "damaged_f1": second}


def _scores(right: np.ndarray, found: np.ndarray) -> dict[str, float]:
    hits = float(np.sum(right & found))
    precision = hits / found.sum() if found.any() else 0.0
    recall = hits / right.sum() if right.any() else 0.0
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(2 * precision * recall / (precision + recall)) if hits else 0.0,
    }


def reliability(probabilities: np.ndarray, right: np.ndarray, weights: np.ndarray) -> list[dict[str, Any]]:
    """Per grade and tenth of the probability: documents, their mean probability, the share that is of the grade.

    Both are weighted, as they were when the probabilities were fitted.
    """
    rows = []
    for place, grade in enumerate(GRADES):
        given = probabilities[:, place]
        tenth = np.minimum((given * _BINS).astype(int), _BINS - 1)
        for number in range(_BINS):
            inside = tenth == number
            if inside.any():
                share = float(np.average(right[inside] == place, weights=weights[inside]))
                rows.append(
                    {
                        "grade": grade,
                        "documents": int(inside.sum()),
                        "probability": float(np.average(given[inside], weights=weights[inside])),
                        "weight": float(weights[inside].sum()),
                        "share": share,
                    }
                )
    return rows


def calibration_error(rows: Sequence[dict[str, Any]], grade: str) -> float:
    """Expected calibration error of a grade: mean distance of probability and share, weighted as they are."""
    mine = [row for row in rows if row["grade"] == grade]
    total = sum(row["weight"] for row in mine)
    return sum(row["weight"] * abs(row["probability"] - row["share"]) for row in mine) / total if total else 0.0


def threshold_curve(
    probability: np.ndarray, is_grade: np.ndarray, words: np.ndarray, real: np.ndarray
) -> list[dict[str, Any]]:
    """What each threshold keeps.

    Args:
        probability: float [D], of the grade to keep.
        is_grade: bool [D], whether the document is of it.
        words: float [D].
        real: bool [D], documents as they are; damaged copies count for precision and recall only.
    """
    rows = []
    for threshold in THRESHOLDS:
        kept = probability > threshold
        rows.append(
            {
                "threshold": threshold,
                "documents_kept": _share(np.sum(kept & real), np.sum(real)),
                "words_kept": _share(words[kept & real].sum(), words[real].sum()),
                "precision": _share(np.sum(kept & is_grade), np.sum(kept)) if kept.any() else None,
                "recall": _share(np.sum(kept & is_grade), np.sum(is_grade)),
            }
        )
    return rows


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else 0.0
