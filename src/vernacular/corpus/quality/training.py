"""Training the classifier: examples → features → cross-fitted scores → calibration → the classifier and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vernacular.corpus.quality import calibration, figures
from vernacular.corpus.quality.configuration import GRADES, TrainQualityConfiguration
from vernacular.corpus.quality.cross_fitting import cross_fitted, fit_classifier, weights
from vernacular.corpus.quality.examples import gather
from vernacular.corpus.quality.features import catalogue, measure
from vernacular.corpus.quality.model import QualityModel, import_xgboost, open_lexicons
from vernacular.corpus.quality.report import write_report
from vernacular.corpus.quality.scaling import Scaling
from vernacular.corpus.quality.weak_labels import HIGH, Example
from vernacular.foundation.errors import UserError
from vernacular.foundation.progress import progress

_AT_ONCE = 512
_EXPLAINED = 2000  # examples that the features' importance is averaged over


@dataclass(frozen=True)
class Judged:
    """Examples that a classifier judged without having seen them.

    Attributes:
        examples: E of them.
        rows: float32 [E, 93], their features.
        probabilities: float64 [E, 3], calibrated.
    """

    examples: Sequence[Example]
    rows: np.ndarray
    probabilities: np.ndarray

    @property
    def grades(self) -> np.ndarray:
        """int [E]: the right ones."""
        return np.array([example.grade for example in self.examples])


def train_quality(
    configuration: TrainQualityConfiguration, documents: Path, labels: Path | None, folder: Path
) -> dict[str, Any]:
    """Train a classifier into `folder`.

    Writes the classifier (model.ubj, quality.json), report.json, report.html and plots/.

    Args:
        configuration: of the stage.
        documents: a curated artifact.
        labels: the file of `vernacular label`, JSON Lines, or None for damage alone.
        folder: where to.

    Returns:
        A summary: examples by grade, macro-F1, what the threshold keeps.

    Raises:
        UserError: labels or documents are not usable.
        MachineError: XGBoost or a lexicon is not installed.
    """
    import_xgboost()
    lexicons = open_lexicons(configuration.lexicons)
    examples, left_out = _of_known_languages(gather(configuration, documents, labels), configuration.minimum_documents)
    languages = np.array([example.language for example in examples])
    rows = measure_examples(examples, lexicons)
    scores = cross_fitted(rows, examples, configuration)
    grades, weight = np.array([example.grade for example in examples]), weights(examples)
    unseen = np.flatnonzero(~np.isnan(scores).any(axis=1))
    fitted = calibrate(scores[unseen], [examples[place] for place in unseen], configuration.calibration)
    scaling = Scaling.fit(rows, languages, np.array([not example.kind for example in examples]))
    scaled = scaling.apply(rows, languages)
    booster = fit_classifier(scaled, grades, weight, configuration)
    model = QualityModel(booster, scaling, fitted, lexicons)
    model.save(folder)
    judged = Judged([examples[place] for place in unseen], rows[unseen], fitted.apply(scores[unseen]))
    report = figures_of(judged, configuration) | {
        "examples": _counted(examples),
        "languages_left_out": left_out,
        "importance": importance(model, scaled, configuration.seed),
    }
    write_report(report, judged.examples, judged.probabilities, configuration, folder)
    return {key: report[key] for key in ("examples", "macro_f1", "sound_or_damaged", "kept")}


def _of_known_languages(examples: Sequence[Example], least: int) -> tuple[list[Example], dict[str, int]]:
    """The examples in languages with enough undamaged documents, and how many the other languages have."""
    counts = Counter(example.language for example in examples if not example.kind)
    left_out = {language: count for language, count in sorted(counts.items()) if count < least}
    kept = [example for example in examples if example.language not in left_out]
    if not kept:
        raise UserError(
            f"no language has {least} documents to learn from: "
            + (", ".join(f"{language} has {count}" for language, count in left_out.items()) or "there are none"),
            where="minimum_documents",
            fix="give more documents or labels",
        )
    return kept, left_out


def measure_examples(examples: Sequence[Example], lexicons: Any) -> np.ndarray:
    """float32 [E, 93]."""
    parts = [np.zeros((0, len(catalogue())), dtype=np.float32)]
    with progress(doing="measuring", total=len(examples), unit="texts") as bar:
        for begin in range(0, len(examples), _AT_ONCE):
            some = examples[begin : begin + _AT_ONCE]
            texts = pa.array([example.text for example in some], pa.large_string())
            parts.append(measure(texts, [example.language for example in some], lexicons))
            bar.update(len(some))
    return np.concatenate(parts)


def calibrate(scores: np.ndarray, examples: Sequence[Example], way: str) -> calibration.Calibration:
    """Fit probabilities to scores (float [E, 3]) of unseen examples: to those that were told, where there are any."""
    told = np.array([example.told for example in examples])
    trusted = np.flatnonzero(told) if told.any() else np.arange(len(examples))
    chosen = [examples[place] for place in trusted.tolist()]
    grades = np.array([example.grade for example in chosen])
    return calibration.fit(scores[trusted], grades, weights(chosen), way)


def _counted(examples: Sequence[Example]) -> dict[str, int]:
    return dict(Counter(GRADES[example.grade] for example in examples))


def figures_of(judged: Judged, configuration: TrainQualityConfiguration) -> dict[str, Any]:
    """Everything that the report states about unseen documents and unseen kinds of damage."""
    grades, probabilities = judged.grades, judged.probabilities
    found, sound = probabilities.argmax(axis=1), probabilities[:, HIGH]
    languages = np.array([example.language for example in judged.examples])
    kinds = np.array([example.kind for example in judged.examples])
    keep = GRADES.index(configuration.keep)
    words = np.nan_to_num(judged.rows[:, [feature.name for feature in catalogue()].index("num_words")])
    curve = figures.threshold_curve(probabilities[:, keep], grades == keep, words, kinds == "")
    bins = figures.reliability(probabilities, grades, weights(judged.examples))
    kept = probabilities[:, keep] > configuration.probability
    return {
        **figures.grade_figures(grades, found),
        "sound_or_damaged": figures.damage_figures(grades, sound),
        "languages": {
            str(one): {
                **figures.damage_figures(grades[languages == one], sound[languages == one]),
                "three_grades_macro_f1": figures.grade_figures(grades[languages == one], found[languages == one])[
                    "macro_f1"
                ],
                "documents": int(np.sum(languages == one)),
            }
            for one in np.unique(languages)
        },
        "damage": {
            str(one): {
                "documents": int(np.sum(kinds == one)),
                "found": float(np.mean(sound[kinds == one] <= 0.5)),
                "kept_at_the_threshold": float(np.mean(kept[kinds == one])),
            }
            for one in np.unique(kinds[kinds != ""])
        },
        "reliability": bins,
        "calibration_error": {grade: figures.calibration_error(bins, grade) for grade in GRADES},
        "thresholds": curve,
        "kept": {
            "grade": configuration.keep,
            "probability": configuration.probability,
            "documents": float(np.mean(kept[kinds == ""])) if np.any(kinds == "") else None,
            "precision": float(np.mean(grades[kept] == keep)) if kept.any() else None,
        },
    }


def importance(model: QualityModel, rows: np.ndarray, seed: int) -> dict[str, float]:
    """By feature, how far it moves the score of HIGH on average (mean absolute SHAP value), greatest first."""
    xgboost = import_xgboost()
    chosen = np.random.default_rng(seed).permutation(len(rows))[:_EXPLAINED]
    names = [feature.name for feature in catalogue()]
    data = xgboost.DMatrix(rows[chosen], feature_names=names, nthread=1)
    moved = np.abs(model.booster.predict(data, pred_contribs=True)[:, HIGH, :-1]).mean(axis=0)
    return {names[place]: float(moved[place]) for place in np.argsort(-moved, kind="stable")}
