"""Dates in the wrong order: a model that came out before its training ended."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from vernacular.evaluation.audit.cells import plain
from vernacular.evaluation.audit.finding import Evidence, Finding
from vernacular.evaluation.benchmarks import data

_LONGEST = 2000
_ISO = re.compile(r"\b((?:19|20)\d\d)-(\d\d)(?:-\d\d)?\b")
_WORDED = re.compile(r"([^\s\d,.()|]{3,14})\.?(?:\s{1,3}\d{1,2}(?:st|nd|rd|th)?,?)?\s{1,3}((?:19|20)\d\d)\b")


class Month(NamedTuple):
    """A month of a year, and the words that named it."""

    year: int
    month: int
    words: str


@functools.cache
def _months() -> dict[str, int]:
    from babel import Locale

    found: dict[str, int] = {}
    for language in data("dates.yaml")["months"]:
        for form in ("format", "stand-alone"):
            for width in ("wide", "abbreviated"):
                names = Locale(language).months[form][width]
                found |= {name.casefold().rstrip("."): number for number, name in names.items()}
    return found


def months_in(text: str) -> list[Month]:
    """The months that a line names: 2024-01-31, Jan 2025, styczeń 2025."""
    found = [Month(int(match[1]), int(match[2]), match[0]) for match in _ISO.finditer(text)]
    for match in _WORDED.finditer(text):
        if number := _months().get(match[1].casefold()):
            found.append(Month(int(match[2]), number, match[0]))
    return found


def check_dates(evidence: Evidence) -> Iterator[Finding]:
    """Hold every release date against the end of the training."""
    trained: tuple[int, Month] | None = None
    released: list[tuple[int, Month]] = []
    for line in evidence.card.lines:
        text = plain(line.text[:_LONGEST])
        months = months_in(text)
        if months and _says("released", text):
            released.append((line.number, months[-1]))
        elif months and _says("trained", text):
            trained = (line.number, max(months))
    for table in evidence.card.tables:
        columns = [place for place, cell in enumerate(table.header.cells) if _says("released", cell)]
        for row in table.rows:
            released += [(row.number, month) for place in columns for month in months_in(row.cells[place])]
    if trained is None:
        return
    for number, month in released:
        if month[:2] < trained[1][:2]:
            message = f"released {month.words}, but trained until {trained[1].words} (line {trained[0]})"
            yield evidence.finding("date", number, message)


def _says(kind: str, text: str) -> bool:
    return any(word in plain(text).casefold() for word in data("dates.yaml")[kind])
