"""Two evaluations, item by item: how far apart they are, how sure that is, and why they may differ.

The same items were put to both, so the differences are taken item by item: what is hard for both cancels, and a paired
interval is much narrower than the two scores' own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from vernacular.evaluation.causes import MODEL, Cause, are_one_model, causes, in_short, unexplained
from vernacular.evaluation.metrics.registry import find_metric
from vernacular.evaluation.records import RECORDS, REQUEST_SCHEMA, Row, by_item, read_rows, read_run
from vernacular.evaluation.statistics import paired_bootstrap
from vernacular.evaluation.tables import markdown_table
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


class Side(NamedTuple):
    """One of the two evaluations: its folder, and in words which model it is of and how that was asked."""

    folder: str
    said: str


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        sides: the first evaluation and the second.
        differences: by task, filter and metric.
        items: those that only one of the two has right.
        causes: everything that was not the same in the two runs.
        requests: how many both were asked, of the items that both have.
        changed: how many of them got another text, or another log-probability.
        unmatched: by task, items that only one of the two has.
        only: tasks that only the first has, and only the second.
    """

    sides: tuple[Side, Side]
    differences: tuple[Difference, ...]
    items: tuple[ItemPair, ...]
    causes: tuple[Cause, ...]
    requests: int
    changed: int
    unmatched: Mapping[str, int]
    only: tuple[tuple[str, ...], tuple[str, ...]]


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
    requests = changed = 0
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
        same = [_is_same(*rows) for own in pairs.values() for pair in own for rows in zip_longest(*pair)]
        requests, changed = requests + len(same), changed + same.count(False)
    found = causes(runs[0], runs[1])
    if changed and not found:
        found = [unexplained(runs[0], changed)]
    return Comparison(
        sides=(_side(first, runs[0]), _side(second, runs[1])),
        differences=tuple(differences),
        items=tuple(items),
        causes=tuple(found),
        requests=requests,
        changed=changed,
        unmatched=unmatched,
        only=(_alone_in(runs[0], runs[1]), _alone_in(runs[1], runs[0])),
    )


def _side(folder: Path, run: Mapping[str, Any]) -> Side:
    model, template = run["model"], run["template"]
    applied = f"template {'applied' if template['applied'] else 'not applied'} ({template['reason']})"
    return Side(str(folder), f"weights {in_short(model['weights'])}, {model['dtype']}, {applied}")


def _alone_in(run: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(run["tasks"].keys() - other["tasks"].keys()))


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


def _is_same(first: Row | None, second: Row | None) -> bool:
    """Whether a request got the same answer."""
    if first is None or second is None:
        return False
    return all(first[name] == second[name] for name in ("response", "log_probability"))


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
    low, high = paired_bootstrap(values[0], values[1], metric.aggregate, resamples=_RESAMPLES, seed=seed)
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


# ------------------------------------------------------------------------------------------------------ report


def report(found: Comparison, *, most_items: int) -> str:
    """The comparison as Markdown: what was compared, why it may differ, how far it does, and on which items."""
    parts = [_sides(found), _causes(found), _differences(found)]
    if found.unmatched:
        counts = ", ".join(f"{count:,} of {task}" for task, count in found.unmatched.items())
        parts.append(f"Left out, because only one of the two has them: {counts}.")
    parts += [_item(one) for one in found.items[:most_items]]
    if len(found.items) > most_items:
        left = len(found.items) - most_items
        parts.append(f"{left:,} more items are right in one only; --items N shows more, --json all")
    return "\n\n".join(parts)


def _sides(found: Comparison) -> str:
    lines = [
        f"{name:<6}  {side.folder}: {side.said}" for name, side in zip(("first", "second"), found.sides, strict=True)
    ]
    lines += [
        f"Only in the {name}: {', '.join(alone[:5])}{', …' if len(alone) > 5 else ''}"
        for name, alone in zip(("first", "second"), found.only, strict=True)
        if alone
    ]
    return "\n".join(lines)


def _causes(found: Comparison) -> str:
    """What was not the same, in words that say how much that explains."""
    same = f"{found.requests - found.changed:,} of {found.requests:,} answers are the same"
    others = [cause for cause in found.causes if cause.what not in MODEL]
    if not found.causes:
        return f"One model, two runs. Nothing but their time differed; {same}."
    if are_one_model(found.causes):
        title = f"One model, two runs; {same}. "
        if not found.changed:
            title += "What was not the same changed none of them:"
        else:
            title += "The cause of every difference:" if len(others) == 1 else "The causes are among these:"
    else:
        title = f"Two models; {same}. " + ("Besides, these were not the same:" if others else "All else was the same.")
    return "\n".join([title, *map(_cause, others)])


def _cause(cause: Cause) -> str:
    tasks = cause.tasks
    about = f" ({', '.join(tasks[:3])}{f' and {len(tasks) - 3} more tasks' if len(tasks) > 3 else ''})" if tasks else ""
    return f"- {cause.what}: {cause.first} → {cause.second}{about}"


def _differences(found: Comparison) -> str:
    numbers = ["n", "first", "second", "difference", "95% interval", "only first", "only second", "McNemar p"]
    table = markdown_table(["task", "metric", *numbers], list(map(_row, found.differences)), words=2)
    sure = [
        one
        for one in found.differences
        if one.low is not None and one.high is not None and not one.low <= 0 <= one.high
    ]
    counted = f"{len(sure)} of {len(found.differences)} intervals leave out 0"
    by_chance = f"by chance about {len(found.differences) / 20:.1f} would, were the two equally good"
    return f"{table}\n\nThe difference is second less first. {counted}; {by_chance}."


def _row(one: Difference) -> list[str]:
    interval = "" if one.low is None or one.high is None else f"{one.low:+.3f} to {one.high:+.3f}"
    name = one.metric + (f" ({one.filter})" if one.filter != "none" else "")
    counts = ["", "", ""]
    if one.mcnemar is not None:
        counts = [str(one.only_first), str(one.only_second), f"{one.mcnemar:.3g}"]
    numbers = [f"{one.first:.3f}", f"{one.second:.3f}", f"{one.difference:+.3f}", interval, *counts]
    return [one.task, name, f"{one.n:,}", *numbers]


def _item(one: ItemPair) -> str:
    lines = [f"{one.task}, item {one.item}: the {one.right} is right ({one.metric})"]
    lines += [f"    prompt: {_line(one.prompt)}", f"    target: {_line(one.target)}"]
    lines += [f"    first:  {_line(one.first)}", f"    second: {_line(one.second)}"]
    return "\n".join(lines)


def _line(text: str) -> str:
    """A text on one line: its end, which is where a prompt's question stands."""
    shown = text if len(text) <= 200 else f"…{text[-200:]}"
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in shown.replace("\n", "⏎"))


def as_object(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON values."""
    return {
        **asdict(found),
        "items": [item._asdict() for item in found.items],
        "causes": [cause._asdict() for cause in found.causes],
        "sides": [side._asdict() for side in found.sides],
    }
