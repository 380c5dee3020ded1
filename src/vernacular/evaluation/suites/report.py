"""A suite's headlines over an evaluation, with what its card publishes beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vernacular.evaluation.library.benchmark import library
from vernacular.evaluation.records import RECORDS, REQUEST_SCHEMA, by_item, read_rows
from vernacular.evaluation.scores import read_scores
from vernacular.evaluation.suites.baseline import BASELINES, always_positive_f1
from vernacular.evaluation.suites.suite import (
    Member,
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
    unfit = incomplete(suite, evaluation, shares)
    whole = {benchmark: share for benchmark, share in shares.items() if benchmark not in unfit}
    found = headlines(suite, whole, record_baselines(suite, folder, evaluation["tasks"]))
    return {
        "suite": suite.name,
        "headlines": [one._asdict() for one in found],
        "shares": shares,
        "incomplete": unfit,
        "notes": _notes(suite, evaluation),
        "shots": shots_beside(suite, evaluation["scores"]),
        "published": {model: published_shares(suite, model) for model in published_models(suite)},
    }


def incomplete(suite: Suite, evaluation: Mapping[str, Any], shares: Mapping[str, float]) -> dict[str, str]:
    """Benchmarks that no headline may count, and why: tasks of theirs were left out, or another set stood in."""
    found: dict[str, str] = {}
    for member in suite.members:
        out = {name: why for name, why in evaluation.get("left_out", {}).items() if _is_of(member, name)}
        stand_ins = {
            task: facts["data"]["note"]
            for task, facts in evaluation["tasks"].items()
            if member.has(task) and facts.get("data", {}).get("stands_in")
        }
        if out:
            names = list(out)
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            found[member.benchmark] = f"without {shown}: {out[names[0]]}"
        elif member.benchmark not in shares and any(member.has(task) for task in evaluation["tasks"]):
            found[member.benchmark] = f"its tasks have no {member.metric}"
        elif stand_ins:
            found[member.benchmark] = f"other data stood in: {next(iter(stand_ins.values()))}"
    return found


def _is_of(member: Member, name: str) -> bool:
    """Whether what was left out is a task of the benchmark, or the benchmark itself."""
    return name == member.benchmark or member.has(name)


def _notes(suite: Suite, evaluation: Mapping[str, Any]) -> list[str]:
    """In what the numbers are not over the whole sets."""
    limit = evaluation["settings"].get("limit")
    notes = [f"at most {limit} items of each task were scored"] if limit is not None else []
    seen: dict[str, list[str]] = {}
    for task, facts in evaluation["tasks"].items():
        note = facts.get("data", {}).get("note")
        if note and any(member.has(task) for member in suite.members):
            seen.setdefault(note, []).append(task)
    return notes + [
        f"{tasks[0]}{f' and {len(tasks) - 1} more' if len(tasks) > 1 else ''}: {note}" for note, tasks in seen.items()
    ]


def shots_beside(suite: Suite, scores: Sequence[Mapping[str, Any]]) -> dict[str, list[int | None]]:
    """Benchmarks scored with another number of examples than the suite's: [ours, the suite's]."""
    found: dict[str, list[int | None]] = {}
    for member in suite.members:
        for score in scores:
            ours = score["num_fewshot"]
            is_member = member.has(score["task"]) and not _fixes_shots(score["task"])
            if is_member and member.shots is not None and ours != member.shots:
                found[member.benchmark] = [ours, member.shots]
    return found


def _fixes_shots(task: str) -> bool:
    """Whether a task of the library has its own number of examples, whatever the suite's."""
    return task in library() and library()[task].task.config.get("num_fewshot") is not None


def record_baselines(suite: Suite, folder: Path, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Baselines that the suite leaves to the record: the mean over a benchmark's tasks of the commonest answer's."""
    found: dict[str, float] = {}
    for member in suite.members:
        if member.baseline is not None:
            continue
        values = [
            value
            for task, facts in tasks.items()
            if member.has(task)
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
        missing = f"not computed: {', '.join(one['missing'])} missing or not whole"
        lines.append(f"{report['suite']}, {one['name']}: {missing if one['value'] is None else round(one['value'], 5)}")
    lines += [f"{report['suite']}, {benchmark} is not whole: {why}" for benchmark, why in report["incomplete"].items()]
    lines += [f"Note: {note}" for note in report["notes"]]
    for benchmark, (ours, theirs) in report["shots"].items():
        lines.append(f"Warning: {benchmark} was scored with {ours} examples, the suite has {theirs}")
    return "\n".join(lines) or f"{report['suite']}: its card has no headline"
