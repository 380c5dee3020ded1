"""Scores that say less than they seem to: at what guessing gives, below it, or exactly zero."""

from __future__ import annotations

import math
from collections.abc import Iterator

from vernacular.evaluation.audit.finding import Evidence, Finding
from vernacular.evaluation.audit.labels import index_readings
from vernacular.evaluation.audit.readings import Reading
from vernacular.evaluation.benchmarks import find_benchmark, find_metric

_Z95 = 1.959963984540054
_PERCENT = 1.5


def check_plausibility(evidence: Evidence) -> Iterator[Finding]:
    """Compare each share with its chance level: the card's own model when it is no better, any when it is worse.

    A score below chance by more than the sample's spread means most often that answers could not be read.
    """
    groups = [(table.readings, False) for table in evidence.tables] + [(tuple(index_readings(evidence)), True)]
    for readings, indexed in groups:
        hundred = any(float(reading.value) > _PERCENT for reading in readings if reading.higher_is_better)
        for reading in readings:
            if reading.is_average:
                continue
            if reading.value == 0 and reading.higher_is_better:
                message = f"{reading.model}, {reading.benchmark}: {reading.value} means that not one item was right"
                yield evidence.finding("zero", reading.line, message)
                continue
            is_own = indexed or reading.model == evidence.own_model
            beside = _beside_chance(reading, 100 if hundred else 1, is_own=is_own)
            if beside is not None:
                yield evidence.finding("chance", reading.line, beside)


def _beside_chance(reading: Reading, scale: int, *, is_own: bool) -> str | None:
    benchmark = find_benchmark(reading.benchmark)
    metric = find_metric(reading.metric) if reading.metric else None
    if benchmark is None or benchmark.chance is None or benchmark.items is None or reading.language:
        return None
    if metric is not None and metric.name not in ("accuracy", "acc_norm", "exact_match"):
        return None
    spread = _Z95 * math.sqrt(benchmark.chance * (1 - benchmark.chance) / benchmark.items)
    margin = spread + float(reading.number.half_unit) / scale
    above = float(reading.value) / scale - benchmark.chance
    said = f"{reading.model}, {reading.benchmark}: {reading.value}"
    chance = f"chance ({benchmark.chance * scale:g} ± {spread * scale:.2g} on {benchmark.items:,} items)"
    if above < -margin:
        return f"{said} is below {chance}: answers that could not be read?"
    if above <= margin and is_own:
        return f"{said} is no better than {chance}"
    return None
