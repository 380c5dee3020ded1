"""Cross-fitting: each document is judged by a classifier that saw neither it nor its kind of damage.

Documents and kinds of damage are both dealt into folds. The classifier of a fold is trained on the other documents with
the other kinds, and judges the fold's documents with the fold's kinds. So what is measured, and what the probabilities
are calibrated on, is damage never seen in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vernacular.corpus.quality.configuration import GRADES, TrainQualityConfiguration
from vernacular.corpus.quality.model import fit_trees, margins
from vernacular.corpus.quality.outliers import outliers
from vernacular.corpus.quality.scaling import Scaling
from vernacular.corpus.quality.weak_labels import HIGH, Example
from vernacular.foundation.errors import UserError
from vernacular.foundation.progress import progress

if TYPE_CHECKING:
    import xgboost


def weights(examples: Sequence[Example]) -> np.ndarray:
    """float64 [E]: 1 for what was told. Of weak labels, whose shares mean nothing, sound and damaged weigh the same in
    all, and light and heavy damage the same among the damaged.
    """
    told = np.array([example.told for example in examples])
    grades = np.array([example.grade for example in examples])
    counts = np.bincount(grades[~told], minlength=len(GRADES))
    present = counts > 0
    shares = present / max(int(present[HIGH + 1 :].sum()), 1)
    shares[HIGH] = float(present[HIGH])
    balanced = counts.sum() * shares / (max(shares.sum(), 1.0) * np.maximum(counts, 1))
    return np.where(told, 1.0, balanced[grades])


def document_folds(examples: Sequence[Example], folds: int, seed: int) -> np.ndarray:
    """int64 [E]: the fold of each example's document, by its id and the seed alone."""
    keys = [hashlib.sha256(f"{seed} {example.document}".encode()).digest()[:8] for example in examples]
    return np.array([int.from_bytes(key, "little") % folds for key in keys])


def kind_folds(examples: Sequence[Example], folds: int) -> np.ndarray:
    """int64 [E]: the fold of each example's kind of damage; -1 without damage. The kinds of a family are dealt out."""
    names = sorted({example.kind for example in examples if example.kind})
    fold_of = {"": -1, **{name: place % folds for place, name in enumerate(names)}}
    return np.array([fold_of[example.kind] for example in examples])


def fit_classifier(
    scaled: np.ndarray, grades: np.ndarray, weight: np.ndarray, configuration: TrainQualityConfiguration
) -> xgboost.Booster:
    """Train on examples (scaled features, grades, weights) and, where damage is learnt from, on outliers."""
    sound = scaled[grades == HIGH]
    number = round(configuration.outliers.share * len(sound)) if configuration.damage is not None else 0
    made = outliers(sound, number, configuration.seed) if number else scaled[:0]
    damaged = sorted(set(grades.tolist()) - {HIGH})
    called = np.array([damaged[place % len(damaged)] for place in range(number)], dtype=grades.dtype)
    return fit_trees(
        np.concatenate([scaled, made]),
        np.concatenate([grades, called]),
        np.concatenate([weight, np.full(number, configuration.outliers.weight)]),
        configuration.trees,
        configuration.seed,
    )


def cross_fitted(rows: np.ndarray, examples: Sequence[Example], configuration: TrainQualityConfiguration) -> np.ndarray:
    """Scores of documents and damage that were not seen.

    Args:
        rows: float32 [E, 93].
        examples: E of them.
        configuration: folds, trees, seed.

    Returns:
        float32 [E, 3], margins; NaN for damaged copies whose kind is in another fold than their document.

    Raises:
        UserError: there are too few documents to have each grade in each fold.
    """
    folds = configuration.folds
    documents, kinds = document_folds(examples, folds, configuration.seed), kind_folds(examples, folds)
    grades = np.array([example.grade for example in examples])
    languages = np.array([example.language for example in examples])
    weight = weights(examples)
    scores = np.full((len(rows), len(GRADES)), np.nan, dtype=np.float32)
    for fold in progress(range(folds), doing="judging what was not seen", total=folds, unit="folds"):
        seen = (documents != fold) & (kinds != fold)
        unseen = (documents == fold) & ((kinds == fold) | (kinds == -1))
        if len(set(grades[seen].tolist())) < len(set(grades.tolist())):
            raise UserError(
                f"fold {fold + 1} of {folds} has a grade with no document to learn from",
                where="folds",
                fix="give more documents or labels, or fewer folds",
            )
        scaled = Scaling.fit(rows, languages, (documents != fold) & (kinds == -1)).apply(rows, languages)
        booster = fit_classifier(scaled[seen], grades[seen], weight[seen], configuration)
        scores[unseen] = margins(booster, scaled[unseen])
    return scores
