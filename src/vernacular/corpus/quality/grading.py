"""Grading in curation: the classifier's probability for each document, and a reason for those that fall short."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from vernacular.corpus.quality.configuration import GRADES, QualityFilter
from vernacular.corpus.quality.model import QualityModel

REASON = "quality"


def grade(
    texts: pa.Array,
    languages: list[str],
    reasons: list[str | None],
    details: list[str | None],
    settings: QualityFilter,
) -> pa.Array:
    """Grade the documents that no rule has removed, and enter a reason for those whose probability is too low.

    Args:
        texts: large_string [D], normalised.
        languages: identified language of each.
        reasons: of D documents, why they are removed, or None; those that fall short are entered.
        details: the same in figures.
        settings: the classifier's folder, the grade to keep and from which probability.

    Returns:
        float32 [D]: the probability of the grade; null where a rule has removed the document, and where the classifier
        was not trained on its language. Such a document is removed, for nothing is known of it.
    """
    model = _load(settings.model)
    place = GRADES.index(settings.keep)
    found = np.full(len(reasons), np.nan, dtype=np.float32)
    waiting = [index for index, reason in enumerate(reasons) if reason is None]
    some = [languages[index] for index in waiting]
    if waiting:
        found[waiting] = model.probabilities(texts.take(pa.array(waiting)), some)[:, place]
    for index in waiting:
        if np.isnan(found[index]):
            reasons[index] = REASON
            details[index] = f"the classifier was not trained on '{languages[index]}'"
        elif not found[index] > settings.probability:
            reasons[index] = REASON
            details[index] = f"probability of {settings.keep} {found[index]:.3f}, not above {settings.probability:g}"
    return pa.array(found, mask=np.isnan(found))


@cache
def _load(folder: str) -> QualityModel:
    return QualityModel.load(Path(folder))
