"""One model with two values for one benchmark, on one card or across several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from vernacular.evaluation.audit.finding import Evidence, Finding, mean, short
from vernacular.evaluation.audit.labels import index_readings
from vernacular.evaluation.audit.readings import Reading
from vernacular.evaluation.benchmarks import key

_PERCENT = Decimal("1.5")


class Statement(NamedTuple):
    """What one table says of one model on one benchmark; by language, the mean and of how many."""

    evidence: Evidence
    reading: Reading
    value: Decimal
    slack: Decimal
    languages: int

    def __str__(self) -> str:
        number = short(self.value) if self.languages else str(self.reading.value)
        beside = [f"mean of {self.languages} languages"] if self.languages else []
        beside += [self.reading.metric] if self.reading.metric else []
        beside += [f"{self.reading.shots}-shot"] if self.reading.shots is not None else []
        said = f" ({', '.join(beside)})" if beside else ""
        return f"{number}{said} at {self.evidence.path.name}:{self.reading.line}"


def check_agreement(cards: Iterable[Evidence]) -> Iterator[Finding]:
    """Compare what all tables of all cards say of one model on one benchmark.

    Two values that differ by no more than their rounding agree. Where both say another metric, or both another number
    of examples, they are of different things.
    """
    found: dict[tuple[str, str], list[Statement]] = {}
    for evidence in cards:
        for statement in _statements(evidence):
            place = (key(statement.reading.model), key(statement.reading.benchmark))
            for other in found.setdefault(place, []):
                if _contradict(statement, other):
                    text = f"{statement.reading.model}, {statement.reading.benchmark}: {other} but {statement}"
                    yield evidence.finding("disagreement", statement.reading.line, text)
                    break
            found[place].append(statement)


def _statements(evidence: Evidence) -> Iterator[Statement]:
    for readings in [*(table.readings for table in evidence.tables), index_readings(evidence)]:
        groups: dict[tuple[str, str, str | None, int | None], list[Reading]] = {}
        for reading in readings:
            if not reading.is_average:
                place = (reading.model, reading.benchmark, reading.metric, reading.shots)
                groups.setdefault(place, []).append(reading)
        for group in groups.values():
            languages = len(group) if group[0].language else 0
            for reading in group[:1] if languages else group:
                value = mean(one.value for one in group) if languages else reading.value
                yield Statement(evidence, reading, value, reading.number.half_unit, languages)


def _contradict(one: Statement, other: Statement) -> bool:
    metrics = (one.reading.metric, other.reading.metric)
    if all(metrics) and key(metrics[0] or "") != key(metrics[1] or ""):
        return False
    shots = (one.reading.shots, other.reading.shots)
    if None not in shots and shots[0] != shots[1]:
        return False
    small, large = sorted((one, other), key=lambda statement: statement.value)
    scale = 100 if small.value <= _PERCENT < large.value and small.reading.higher_is_better else 1
    return abs(small.value * scale - large.value) > small.slack * scale + large.slack
