"""Two evaluations, item by item: how far apart they are, how sure that is, and why they may differ.

The same items were put to both, so the differences are taken item by item: what is hard for both cancels, and a paired
interval is much narrower than the two scores' own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vernacular.evaluation.metrics.metric import Metric
from vernacular.evaluation.metrics.registry import find_metric
from vernacular.evaluation.records import RECORDS, REQUEST_SCHEMA, Row, by_item, read_rows, read_run
from vernacular.foundation.errors import UserError

_RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """A metric of a task, in both evaluations.

    Attributes:
        task: the task's name.
        metric: the metric's name.
        filter: how the answer was taken from the response.
        n: items that both have.
        first: the value in the first, over those items.
        second: the value in the second.
        difference: second less first.
        low: lower end of the difference's 95% interval (paired bootstrap); None for a single item.
        high: upper end of it.
        only_first: items that only the first has right; None where items are not right or wrong.
        only_second: items that only the second has right.
        mcnemar: two-sided probability of so uneven a split, were both equally good (McNemar's exact test).
    """

    task: str
    metric: str
    filter: str
    n: int
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    only_first: int | None
    only_second: int | None
    mcnemar: float | None


class ItemPair(NamedTuple):
    """An item on which the two differ."""

    task: str
    item: int
    metric: str
    prompt: str
    target: str
    first: str
    second: str
    right: str


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        differences: by task, filter and metric.
        items: those answered differently.
        causes: (what, in the first, in the second) of everything that was not the same in the two runs.
        unmatched: by task, items that only one of the two has.
    """

    differences: tuple[Difference, ...]
    items: tuple[ItemPair, ...]
    causes: tuple[tuple[str, str, str], ...]
    unmatched: Mapping[str, int]


def compare(first: Path, second: Path, *, seed: int = 0) -> Comparison:
    """Compare the records of two evaluations.

    Args:
        first: an evaluation's folder.
        second: another's.
        seed: of the bootstrap.

    Raises:
        UserError: a record is missing, or they have no task in common.
    """
    runs = (read_run(first / RECORDS), read_run(second / RECORDS))
    shared = [task for task in runs[0]["tasks"] if task in runs[1]["tasks"]]
    if not shared:
        raise UserError(
            "the two evaluations have no task in common",
            where=f"{first}, {second}",
            fix=f"the first has {', '.join(runs[0]['tasks']) or 'none'}; the second {', '.join(runs[1]['tasks'])}",
        )
    differences: list[Difference] = []
    items: list[ItemPair] = []
    unmatched: dict[str, int] = {}
    for task in shared:
        rows = [read_rows(folder / RECORDS / f"{task}.parquet", REQUEST_SCHEMA) for folder in (first, second)]
        facts = (runs[0]["tasks"][task], runs[1]["tasks"][task])
        pairs = _pairs(rows[0], rows[1])
        if alone := _alone(rows[0], rows[1]):
            unmatched[task] = alone
        for name, metric, own in _measures(facts, pairs):
            differences.append(
                _difference(task, name, metric, own, facts[0]["metrics"][metric], facts[0]["kind"], seed)
            )
        items += list(_differing(task, facts[0], pairs))
    return Comparison(tuple(differences), tuple(items), tuple(causes(runs[0], runs[1])), unmatched)


# ------------------------------------------------------------------------------------------------------- items

Pair = tuple[list[Row], list[Row]]


def _items(rows: Sequence[Row]) -> dict[tuple[str, str, int], list[Row]]:
    """Rows by (filter, item's hash, how often the hash came before)."""
    found: dict[tuple[str, str, int], list[Row]] = {}
    for name in sorted({row["filter"] for row in rows}):
        seen: dict[str, int] = {}
        for item in by_item([row for row in rows if row["filter"] == name]):
            item_hash = item[0]["item_hash"]
            seen[item_hash] = seen.get(item_hash, -1) + 1
            found[name, item_hash, seen[item_hash]] = list(item)
    return found


def _pairs(first: Sequence[Row], second: Sequence[Row]) -> dict[str, list[Pair]]:
    """Items that both have, by filter."""
    ours, theirs = _items(first), _items(second)
    found: dict[str, list[Pair]] = {}
    for place in ours:
        if place in theirs:
            found.setdefault(place[0], []).append((ours[place], theirs[place]))
    return found


def _alone(first: Sequence[Row], second: Sequence[Row]) -> int:
    return len(_items(first).keys() ^ _items(second).keys())


def _measures(facts: tuple[Any, Any], pairs: Mapping[str, list[Pair]]) -> Iterator[tuple[str, str, list[Pair]]]:
    for name, own in pairs.items():
        for metric in facts[0]["metrics"]:
            if facts[0]["kind"] == facts[1]["kind"] and metric in facts[1]["metrics"]:
                yield name, metric, own


def _difference(
    task: str, name: str, metric_name: str, pairs: list[Pair], options: Mapping[str, Any], kind: str, seed: int
) -> Difference:
    metric = find_metric(kind, metric_name)
    values = [[metric.of_item(pair[side], options) for pair in pairs] for side in (0, 1)]
    first, second = (float(metric.aggregate(side)) for side in values)
    low, high = _interval(metric, values, seed)
    only = (None, None)
    if metric.is_share:
        only = tuple(sum(a > b if side == 0 else b > a for a, b in zip(*values, strict=True)) for side in (0, 1))
    return Difference(
        task=task,
        metric=metric_name,
        filter=name,
        n=len(pairs),
        first=first,
        second=second,
        difference=second - first,
        low=low,
        high=high,
        only_first=only[0],
        only_second=only[1],
        mcnemar=None if only[0] is None or only[1] is None else mcnemar(only[0], only[1]),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test: probability, for a fair coin, of a split at least as uneven as this one."""
    total = only_first + only_second
    if total == 0:
        return 1.0
    tail = sum(math.comb(total, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**total)


def _interval(metric: Metric, values: Sequence[Sequence[Any]], seed: int) -> tuple[float | None, float | None]:
    """95% interval of the difference: items are drawn again with replacement, the same ones for both."""
    n = len(values[0])
    if n < 2:
        return None, None
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(_RESAMPLES):
        places = random.integers(0, n, size=n)
        first, second = (metric.aggregate([side[place] for place in places]) for side in values)
        drawn.append(second - first)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _differing(task: str, facts: Mapping[str, Any], pairs: Mapping[str, list[Pair]]) -> Iterator[ItemPair]:
    """Items that one has right and the other has not, by the task's first metric of right and wrong."""
    metric = next((name for name in facts["metrics"] if find_metric(facts["kind"], name).is_share), None)
    if metric is None:
        return
    for own in pairs.values():
        for first, second in own:
            if first[0]["correct"] != second[0]["correct"]:
                yield ItemPair(
                    task=task,
                    item=first[0]["item"],
                    metric=metric,
                    prompt=first[0]["prompt"],
                    target=" | ".join(first[0]["target"] or []),
                    first=_answer(first),
                    second=_answer(second),
                    right="first" if first[0]["correct"] else "second",
                )


def _answer(rows: Sequence[Row]) -> str:
    """What was answered, as far as the record says it."""
    if rows[0]["extracted"] is not None:
        return str(rows[0]["extracted"])
    chosen = [row["choice"] for row in rows if row["chosen"]]
    return str(chosen[0]) if chosen else f"log-probability {rows[0]['log_probability']:.4f}"


# ------------------------------------------------------------------------------------------------------ causes


def causes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Everything in which two runs were not the same, what weighs most first: the model, then how it was asked.

    Two runs of one model can only differ for a reason that stands here; none means that they must be equal.
    """
    found: list[tuple[str, str, str]] = []
    for name in ("weights", "tokenizer", "template", "backend", "dtype"):
        found += _unless_equal(name, first["model"].get(name), second["model"].get(name))
    for name in sorted((first["model"].keys() | second["model"].keys()) - {*_MODEL}):
        found += _unless_equal(f"model {name}", first["model"].get(name), second["model"].get(name))
    found += _unless_equal("template applied", first["template"]["applied"], second["template"]["applied"])
    for name in sorted(first["settings"].keys() | second["settings"].keys()):
        found += _unless_equal(f"setting {name}", first["settings"].get(name), second["settings"].get(name))
    for task in sorted(first["tasks"].keys() | second["tasks"].keys()):
        ours, theirs = first["tasks"].get(task), second["tasks"].get(task)
        if ours is None or theirs is None:
            found.append((f"{task}", "scored" if ours else "not scored", "scored" if theirs else "not scored"))
            continue
        for name, label in _TASK_FACTS.items():
            found += _unless_equal(f"{task}: {label}", ours.get(name), theirs.get(name))
        for file in sorted(ours["files"].keys() | theirs["files"].keys()):
            found += _unless_equal(f"{task}: file {file}", ours["files"].get(file), theirs["files"].get(file))
    for name in sorted(first["versions"].keys() | second["versions"].keys()):
        found += _unless_equal(f"version of {name}", first["versions"].get(name), second["versions"].get(name))
    for name in sorted(first["machine"].keys() | second["machine"].keys()):
        found += _unless_equal(f"machine {name}", first["machine"].get(name), second["machine"].get(name))
    return found


_MODEL = ("weights", "tokenizer", "template", "backend", "dtype")
_TASK_FACTS = {
    "version": "version",
    "num_fewshot": "shots",
    "kind": "kind",
    "metrics": "metrics",
    "items": "items",
    "prompts_sha256": "prompts",
}


def _unless_equal(name: str, first: Any, second: Any) -> list[tuple[str, str, str]]:
    return [] if first == second else [(name, _shown(first), _shown(second))]


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


# ------------------------------------------------------------------------------------------------------ report


def report(found: Comparison, *, most_items: int) -> str:
    """The comparison as Markdown."""
    lines = [
        "| task | metric | n | first | second | difference | 95% interval | only first | only second | McNemar p |"
    ]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for one in found.differences:
        interval = "" if one.low is None or one.high is None else f"{one.low:+.3f} to {one.high:+.3f}"
        name = one.metric + (f" ({one.filter})" if one.filter != "none" else "")
        counts = ["", "", ""]
        if one.mcnemar is not None:
            counts = [str(one.only_first), str(one.only_second), f"{one.mcnemar:.3g}"]
        numbers = [f"{one.first:.3f}", f"{one.second:.3f}", f"{one.difference:+.3f}", interval, *counts]
        lines.append(f"| {' | '.join([one.task, name, str(one.n), *numbers])} |")
    for task, alone in found.unmatched.items():
        lines.append(f"\n{task}: {alone} items that only one of the two has were left out")
    lines.append("\nWhat was not the same:" if found.causes else "\nNothing but the time of the runs differed.")
    lines += [f"- {what}: {ours} → {theirs}" for what, ours, theirs in found.causes]
    for one_item in found.items[:most_items]:
        lines.append(f"\n{one_item.task}, item {one_item.item}: {one_item.right} is right ({one_item.metric})")
        lines += [f"    prompt: {_line(one_item.prompt)}", f"    target: {_line(one_item.target)}"]
        lines += [f"    first:  {_line(one_item.first)}", f"    second: {_line(one_item.second)}"]
    if len(found.items) > most_items:
        lines.append(f"\n{len(found.items) - most_items:,} more items differ; --items N shows more, --json all")
    return "\n".join(lines)


def _line(text: str) -> str:
    """A text on one line: its end, which is where a prompt's question stands."""
    shown = text if len(text) <= 200 else f"…{text[-200:]}"
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in shown.replace("\n", "⏎"))


def as_object(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON values."""
    return {**asdict(found), "items": [item._asdict() for item in found.items]}
