"""Ours: all 93 features and the classifier, a batch at a time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from quality_protocol import COMPARED, Measured, serve

from vernacular.corpus.quality.features import catalogue, measure
from vernacular.corpus.quality.model import QualityModel, margins

model = QualityModel.load(Path(sys.argv[1]))
PLACES = {feature.name: place for place, feature in enumerate(catalogue())}


def grade(texts: Sequence[str], languages: Sequence[str]) -> Measured:
    """Features, scores and probabilities of all the texts."""
    rows = measure(pa.array(texts, pa.large_string()), languages, model.lexicons)
    model.calibration.apply(margins(model.booster, model.scaling.apply(rows, languages)))
    return {name: rows[:, PLACES[name]].astype(float).tolist() for name in COMPARED}


serve(grade)
