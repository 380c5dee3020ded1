"""A suite's headlines over an evaluation, with what its card publishes beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from vernacular.evaluation.records import RECORDS, REQUEST_SCHEMA, by_item, read_rows
from vernacular.evaluation.scores import read_scores
from vernacular.evaluation.suites.baseline import BASELINES, always_positive_f1
from vernacular.evaluation.suites.suite import (
    Suite,
    headlines,
    published_models,
    published_shares,
    suite_shares,
)


def suite_report(suite: Suite, folder: Path) -> dict[str, Any]:
    """Headlines, shares by benchmark, and the card's models, as JSON values."""
    evaluation = read_scores(folder)
    shares = suite_shares(suite, evaluation["scores"])
    found = headlines(suite, shares, record_baselines(suite, folder, evaluation["tasks"]))
    return {
        "suite": suite.name,
        "headlines": [one._asdict() for one in found],
        "shares": shares,
        "shots": shots_beside(suite, evaluation["scores"]),
        "published": {model: published_shares(suite, model) for model in published_models(suite)},
    }


def shots_beside(suite: Suite, scores: Sequence[Mapping[str, Any]]) -> dict[str, list[int | None]]:
    """Benchmarks scored with another number of examples than the suite's: [ours, the suite's]."""
    found: dict[str, list[int | None]] = {}
    for member in suite.members:
        for score in scores:
            ours = score["num_fewshot"]
            is_member = any(fnmatchcase(score["task"], pattern) for pattern in member.tasks)
            if is_member and member.shots is not None and ours != member.shots:
                found[member.benchmark] = [ours, member.shots]
    return found


def record_baselines(suite: Suite, folder: Path, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Baselines that the suite leaves to the record: the mean over a benchmark's tasks of the commonest answer's."""
    found: dict[str, float] = {}
    for member in suite.members:
        if member.baseline is not None:
            continue
        values = [
            value
            for task, facts in tasks.items()
            if any(fnmatchcase(task, pattern) for pattern in member.tasks)
            and (value := _baseline(folder / RECORDS / f"{task}.parquet", member.metric, facts)) is not None
        ]
        if values:
            found[member.benchmark] = sum(values) / len(values)
    return found


def _baseline(path: Path, metric: str, facts: Mapping[str, Any]) -> float | None:
    rows = read_rows(path, REQUEST_SCHEMA)
    first = [row for row in rows if row["filter"] == rows[0]["filter"]]
    targets = [item[0]["target"][0] for item in by_item(first) if item[0]["target"]]
    if not targets:
        return None
    if metric == "f1":
        positive = facts["metrics"].get("f1", {}).get("positive")
        return always_positive_f1(targets, str(positive)) if positive is not None else None
    return BASELINES[metric](targets) if metric in BASELINES else None


def headline_table(report: Mapping[str, Any]) -> str:
    """The headlines as lines for people."""
    lines = []
    for one in report["headlines"]:
        missing = f"cannot be computed without {', '.join(one['missing'])}"
        lines.append(f"{report['suite']}, {one['name']}: {missing if one['value'] is None else round(one['value'], 5)}")
    for benchmark, (ours, theirs) in report["shots"].items():
        lines.append(f"Warning: {benchmark} was scored with {ours} examples, the suite has {theirs}")
    return "\n".join(lines) or f"{report['suite']}: its card has no headline"
