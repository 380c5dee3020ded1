"""Labels that cannot be right: metrics, the model index, and how far the weights were trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from vernacular.evaluation.audit.cells import Number, plain
from vernacular.evaluation.audit.finding import Evidence, Finding
from vernacular.evaluation.audit.readings import Label, Reading
from vernacular.evaluation.benchmarks import data, find_benchmark, find_metric, key
from vernacular.foundation.errors import nearest

_BRACKETED = re.compile(r"\(([^()]{1,40})\)")
_RESULT_KEYS = ("name", "type", "value", "verified", "verifyToken", "config", "args")
_NUMBERED = re.compile(r"\d+(?:\.\d+)?b", re.IGNORECASE)


def check_labels(evidence: Evidence) -> Iterator[Finding]:
    """Metrics that their benchmark cannot have, the model index's names and keys, and columns' stages."""
    yield from _check_table_metrics(evidence)
    yield from _check_index(evidence)
    yield from _check_stages(evidence)


def _is_impossible(benchmark: str, metric: str) -> bool:
    known, measure = find_benchmark(benchmark), find_metric(metric)
    return known is not None and measure is not None and bool(measure.kinds) and known.kind not in measure.kinds


def _check_table_metrics(evidence: Evidence) -> Iterator[Finding]:
    seen = set()
    for table in evidence.tables:
        for reading in table.readings:
            if reading.metric and reading.line not in seen and _is_impossible(reading.benchmark, reading.metric):
                seen.add(reading.line)
                yield evidence.finding("metric", reading.line, f"{reading.row} cannot be scored by {reading.metric}")


# ------------------------------------------------------------------------------------------------ model index


def _index(evidence: Evidence) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(model, benchmark, metric entry) of the front matter's `model-index`; entries of another shape are skipped."""
    models = evidence.card.front.get("model-index")
    for model in models if isinstance(models, list) else []:
        results = model.get("results") if isinstance(model, dict) else None
        for result in results if isinstance(results, list) else []:
            dataset = result.get("dataset") if isinstance(result, dict) else None
            metrics = result.get("metrics") if isinstance(result, dict) else None
            for metric in metrics if isinstance(metrics, list) else []:
                if isinstance(metric, dict) and isinstance(dataset, dict):
                    yield str(model.get("name", "")), _benchmark(dataset), metric


def _benchmark(dataset: Mapping[str, Any]) -> str:
    """A data set's name; of one that is not known, with its configuration, which may be another language."""
    name, configuration = str(dataset.get("name", "")), dataset.get("config")
    return f"{name} {configuration}" if configuration and find_benchmark(name) is None else name


def index_line(evidence: Evidence) -> int:
    """Where the model index begins."""
    return evidence.card.front_lines.get("model-index", 1)


def index_readings(evidence: Evidence) -> list[Reading]:
    """The numbers of the model index."""
    found: list[Reading] = []
    line = index_line(evidence)
    for model, benchmark, metric in _index(evidence):
        value = metric.get("value")
        if isinstance(value, int | float) and not isinstance(value, bool):
            label, kind = Label(benchmark), str(metric.get("type"))
            measure = kind if find_metric(kind) and not _is_impossible(label.benchmark, kind) else None
            number = Number(Decimal(str(value)), False, "")
            if number.value.is_finite():
                found.append(
                    Reading(
                        model, label.benchmark, measure, label.shots, None, number, benchmark, model, "", line, False
                    )
                )
    return found


def _check_index(evidence: Evidence) -> Iterator[Finding]:
    entries, line = list(_index(evidence)), index_line(evidence)
    for model in dict.fromkeys(model for model, _, _ in entries):
        named = {size.lower() for size in _NUMBERED.findall(evidence.card.title)}
        indexed = {size.lower() for size in _NUMBERED.findall(model)}
        if named and indexed and named.isdisjoint(indexed):
            message = f"the model index names '{model}', the card is about '{evidence.card.title}'"
            yield evidence.finding("index", line, message)
    unknown = dict.fromkeys(name for _, _, metric in entries for name in metric if str(name) not in _RESULT_KEYS)
    for name in unknown:
        close = nearest(str(name), _RESULT_KEYS)
        hint = f"; '{close}' is meant?" if close else ""
        yield evidence.finding("index", line, f"the model index has the unknown key '{name}'{hint}")
    labelled: dict[str, list[str]] = {}
    for _, benchmark, metric in entries:
        labelled.setdefault(str(metric.get("type") or metric.get("name")), []).append(benchmark)
    for metric_name, benchmarks in labelled.items():
        wrong = [benchmark for benchmark in benchmarks if _is_impossible(Label(benchmark).benchmark, metric_name)]
        if wrong:
            yield evidence.finding(
                "metric",
                line,
                f"the model index calls {len(benchmarks)} of {len(entries)} metrics {metric_name}; {len(wrong)} of "
                f"them cannot be: {', '.join(wrong)}",
            )


# ----------------------------------------------------------------------------------------------------- stages


def _stage(text: str) -> str | None:
    for stage, words in data("words.yaml")["stages"].items():
        if key(text) in {key(word) for word in words}:
            return str(stage)
    return None


def _check_stages(evidence: Evidence) -> Iterator[Finding]:
    """A column said to be of pre-trained weights below which the prose says that they were tuned, or the reverse."""
    own = evidence.own_model
    label = next((_stage(part) for part in _BRACKETED.findall(own or "") if _stage(part)), None)
    headings = {table.headings for table in evidence.tables if own in {reading.model for reading in table.readings}}
    for line in evidence.card.lines if label else []:
        if line.headings not in headings:
            continue
        words = plain(line.text).replace(",", " ").rstrip(".").split()
        for word in words if "=" not in words else []:
            said = _stage(word.strip(".;:()"))
            if said is not None and said != label:
                message = f"'{plain(line.text).lstrip('* ')}', but the table's column is headed '{own}'"
                yield evidence.finding("stage", line.number, message)
                break
