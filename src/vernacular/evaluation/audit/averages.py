"""Averages that do not follow from the numbers they are said to be averages of."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from vernacular.evaluation.audit.finding import Evidence, Result, mean, short
from vernacular.evaluation.audit.readings import Reading, ScoreTable, is_word
from vernacular.evaluation.benchmarks import data, find_benchmark

_LEAST_MEMBERS = 2


@functools.cache
def _rules() -> list[dict[str, str]]:
    return data("averages.yaml")


def check_averages(evidence: Evidence) -> Iterator[Result]:
    """Recompute every average by each rule of `data/averages.yaml`; one that no rule gives is a finding."""
    other_rule = _says_other_rule(evidence)
    for table in evidence.tables:
        skipped: list[Reading] = []
        for average in (reading for reading in table.readings if reading.is_average):
            members = members_of(table, average)
            if len(members) < _LEAST_MEMBERS:
                continue
            if any(follows(average, members, rule) for rule in _rules()):
                continue
            if other_rule:
                skipped.append(average)
                continue
            given = {rule["name"]: value for rule in _rules() if (value := compute(members, rule)) is not None}
            text = "; ".join(f"{name} {short(value)}" for name, value in _distinct(given).items())
            yield evidence.finding(
                "average",
                average.line,
                f"{average.model}: the average is printed as {average.value}; its {len(members)} numbers give: {text}",
            )
        if skipped:
            yield evidence.unchecked(
                skipped[0].line,
                f"{len(skipped)} averages: line {other_rule} says they are no plain means, and not all that they are "
                "averages of is printed",
            )


def members_of(table: ScoreTable, average: Reading) -> list[Reading]:
    """What a printed average is an average of: its model's other numbers in the table (or in its section)."""
    own = [reading for reading in table.readings if not reading.is_average]
    if table.rows_are == "models":
        return [reading for reading in own if reading.line == average.line]
    return [reading for reading in own if reading.column == average.column and reading.section == average.section]


def plain_mean(table: ScoreTable, model: str) -> Decimal | None:
    """Mean of a model's numbers in a table; None where it has none."""
    values = [reading.value for reading in table.readings if reading.model == model and not reading.is_average]
    return mean(values) if values else None


def follows(average: Reading, members: Sequence[Reading], rule: Mapping[str, str]) -> bool:
    """Whether the printed average lies within what rounding allows of what the rule gives."""
    value = compute(members, rule)
    slack = average.number.half_unit + mean(member.number.half_unit for member in members)
    return value is not None and abs(value - average.value) <= slack


def compute(members: Sequence[Reading], rule: Mapping[str, str]) -> Decimal | None:
    """The average by a rule; None where the rule does not apply."""
    kept = [member for member in members if rule["members"] == "all" or member.higher_is_better]
    if not kept:
        return None
    values = {}
    for member in kept:
        benchmark = find_benchmark(member.benchmark)
        if rule["subtract"] == "none":
            values[member] = member.value
        elif benchmark is None or benchmark.chance is None:
            return None
        else:
            scale = Decimal(100 if any(one.value > Decimal("1.5") for one in kept) else 1)
            chance = Decimal(str(benchmark.chance)) * scale
            values[member] = (member.value - chance) / (scale - chance) * scale
    if rule["by"] == "none":
        return mean(values.values())
    sections: dict[str, list[Decimal]] = {}
    for member, value in values.items():
        sections.setdefault(member.section, []).append(value)
    return mean(mean(group) for group in sections.values())


def _distinct(given: Mapping[str, Decimal]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for name, value in given.items():
        if value not in found.values():
            found[name] = value
    return found


def _says_other_rule(evidence: Evidence) -> int | None:
    """The line that speaks of a normalised or weighted average, or None."""
    for line in evidence.card.lines:
        words = line.text.split()
        if any(is_word("average", word) for word in words) and any(is_word("other_averages", word) for word in words):
            return line.number
    return None
