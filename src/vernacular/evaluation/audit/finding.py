"""What an audit finds, and what it could not check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path

from vernacular.evaluation.audit.markdown import Card
from vernacular.evaluation.audit.readings import Reading, ScoreTable, score_tables
from vernacular.evaluation.benchmarks import key


@dataclass(frozen=True)
class Finding:
    """Something on a card that does not hold together.

    Attributes:
        kind: which check found it: bold, average, claim, disagreement, licence, metric, stage, chance, zero,
            architecture, parameters, date, code, index, front-matter.
        file: the card.
        line: where it stands, from 1.
        message: what stands there, and what the rest of the card gives.
    """

    kind: str
    file: str
    line: int
    message: str


@dataclass(frozen=True)
class Unchecked:
    """A statement that the card itself neither bears out nor refutes, and what is missing."""

    file: str
    line: int
    message: str


Result = Finding | Unchecked


@dataclass(frozen=True)
class Evidence:
    """A card as the checks see it."""

    card: Card

    @property
    def path(self) -> Path:
        """The file."""
        return self.card.path

    @cached_property
    def tables(self) -> list[ScoreTable]:
        """Its tables of scores."""
        return score_tables(self.card)

    @cached_property
    def own_model(self) -> str | None:
        """What the tables call the model that the card is about: the name that shares most with the title."""
        title = _name_parts(self.card.title)
        models = dict.fromkeys(reading.model for table in self.tables for reading in table.readings)
        shared = {model: title & _name_parts(model) for model in models}
        named = {model: parts for model, parts in shared.items() if any(part.isalpha() for part in parts)}
        return max(named, key=lambda model: (len(named[model]), -len(_name_parts(model)))) if named else None

    def finding(self, kind: str, line: int, message: str) -> Finding:
        """A finding on this card."""
        return Finding(kind, str(self.path), line, message)

    def unchecked(self, line: int, message: str) -> Unchecked:
        """Something on this card that could not be checked."""
        return Unchecked(str(self.path), line, message)


def _name_parts(name: str) -> set[str]:
    """Runs of letters and runs of digits: {"krutrim", "1", "7b"}."""
    spaced = "".join(letter if letter.isalnum() or letter == "." else " " for letter in name)
    return {key(part) for part in spaced.split() if key(part)}


def mean(values: Iterable[Decimal]) -> Decimal:
    """Arithmetic mean of decimals."""
    numbers = list(values)
    return sum(numbers, Decimal(0)) / len(numbers)


def best_of(readings: list[Reading]) -> list[Reading]:
    """Those with the best value, ties included."""
    pick = max if readings[0].higher_is_better else min
    best = pick(reading.value for reading in readings)
    return [reading for reading in readings if reading.value == best]


def short(number: Decimal, places: int = 5) -> str:
    """A computed number for people: at most `places` decimals, no trailing zeros."""
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
