"""Tables of scores, read: each number with its model, its benchmark, and where it stands.

Tables come with benchmarks as rows and models as columns, the other way round, or with models as rows, languages as
columns, and a row of its own that names the benchmark of those below it. Which it is, the names decide.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from vernacular.evaluation.audit.cells import Number, plain, read_number, shots
from vernacular.evaluation.audit.markdown import Card, Row, Table
from vernacular.evaluation.benchmarks import data, find_benchmark, find_metric, higher_is_better, key

_LANGUAGE = re.compile(r"^[a-z]{2,3}(?:[-_][A-Z][a-z]{3})?$")
_LEAST_NUMBERS = 0.3
_BRACKETS = re.compile(r"\([^()]*\)")


@dataclass(frozen=True)
class Reading:
    """A number of a table of scores.

    Attributes:
        model: as the card calls it.
        benchmark: its one name where it is known, else as the card calls it.
        metric: as the card calls it; None where it says none.
        shots: examples before the question; None where the card says nothing.
        language: of a column that is a language's; else None.
        number: value, bold, note.
        row: label of the row as printed.
        column: label of the column as printed.
        section: label of the row that divides the table above this one; "" for none.
        line: of the file.
        is_average: whether row or column is an average of others.
    """

    model: str
    benchmark: str
    metric: str | None
    shots: int | None
    language: str | None
    number: Number
    row: str
    column: str
    section: str
    line: int
    is_average: bool

    @property
    def value(self) -> Decimal:
        """The number's value."""
        return self.number.value

    @property
    def higher_is_better(self) -> bool:
        """Which way is up."""
        return higher_is_better(self.benchmark, self.metric)


@dataclass(frozen=True)
class ScoreTable:
    """A table of scores.

    Attributes:
        readings: its numbers, in the order of lines and columns.
        headings: what it stands under, outermost first.
        line: of its header.
        rows_are: what its rows are: "benchmarks" or "models".
        columns: labels of its columns of numbers, as printed.
    """

    readings: tuple[Reading, ...]
    headings: tuple[str, ...]
    line: int
    rows_are: str
    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        """The heading it stands under, for people."""
        return plain(self.headings[-1]) if self.headings else f"the table at line {self.line}"


class Label:
    """A label of a row or column taken apart: "Hellaswag (0-shot) - Accuracy"."""

    def __init__(self, printed: str) -> None:
        self.printed = plain(printed)
        self.shots = shots(self.printed)
        bare = _BRACKETS.sub("", self.printed).strip()
        head, separator, tail = bare.rpartition(" - ")
        metric = find_metric(tail) if separator else None
        self.metric = tail.strip() if metric else None
        spellings = [self.printed, bare, head] if metric else [self.printed, bare]
        known = [benchmark for spelling in spellings if (benchmark := find_benchmark(spelling))]
        self.is_known = bool(known)
        self.benchmark = known[0].name if known else (head if metric else bare)
        self.is_average = is_word("average", bare)


@functools.cache
def _words(kind: str) -> frozenset[str]:
    return frozenset(key(word) for words in data("words.yaml")[kind].values() for word in words)


def is_word(kind: str, text: str) -> bool:
    """Whether `text` is one of the words of a kind, in any language."""
    return key(plain(text)) in _words(kind)


def score_tables(card: Card) -> list[ScoreTable]:
    """Every table of scores of a card; tables of other things (settings, releases, layers) are left out."""
    return [found for table in card.tables if (found := _read_table(table))]


def _read_table(table: Table) -> ScoreTable | None:
    header = table.header.cells
    metric = next((place for place, cell in enumerate(header) if place and is_word("metric_header", cell)), None)
    columns = [
        place for place in range(1, len(header)) if place != metric and not is_word("beside_scores", header[place])
    ]
    cells = [row.cells[place] for row in table.rows for place in columns if row.cells[place]]
    numbers = sum(read_number(cell) is not None for cell in cells)
    rows_are = _orientation(table, columns)
    if rows_are is None or numbers < max(2, _LEAST_NUMBERS * len(cells)):
        return None
    readings = tuple(_readings(table, columns, metric, rows_are))
    if not readings:
        return None
    labels = tuple(plain(header[place]) for place in columns)
    return ScoreTable(readings, table.headings, table.header.number, rows_are, labels)


def _orientation(table: Table, columns: list[int]) -> str | None:
    """What the rows are, by the names that are known; else by the word above them; None for no table of scores."""
    header = table.header.cells
    sections = [row.cells[0] for row in table.rows if _is_section(row)]
    rows = _count_known(row.cells[0] for row in table.rows if not _is_section(row))
    others = _count_known(header[place] for place in columns)
    named = _count_known(sections)
    if named and all(_LANGUAGE.match(header[place]) for place in columns):
        return "models"
    if rows or others:
        return "benchmarks" if rows >= others else "models"
    if is_word("benchmark_header", header[0]):
        return "benchmarks"
    return "models" if is_word("model_header", header[0]) and named else None


def _count_known(labels: Iterable[str]) -> int:
    return sum(Label(label).is_known for label in labels)


def _is_section(row: Row) -> bool:
    return bool(plain(row.cells[0])) and not any(cell.strip() for cell in row.cells[1:])


def _readings(table: Table, columns: list[int], metric: int | None, rows_are: str) -> Iterator[Reading]:
    header, section = table.header.cells, ""
    above = shots(table.headings[-1]) if table.headings else None
    for row in table.rows:
        if _is_section(row):
            section = plain(row.cells[0])
            continue
        for place in columns:
            number = read_number(row.cells[place])
            if number is None:
                continue
            label, column = Label(row.cells[0]), Label(header[place])
            what, model = (label, column.printed) if rows_are == "benchmarks" else (column, label.printed)
            language = None
            if rows_are == "models" and _LANGUAGE.match(column.printed) and not column.is_known:
                what, language = Label(section or table.headings[-1] if table.headings else section), column.printed
            stated = row.cells[metric] if metric is not None and row.cells[metric] else what.metric
            yield Reading(
                model=model,
                benchmark=what.benchmark,
                metric=plain(stated) if stated else None,
                shots=next((said for said in (number.shots, what.shots, above) if said is not None), None),
                language=language,
                number=number,
                row=label.printed,
                column=column.printed,
                section=section,
                line=row.number,
                is_average=label.is_average or column.is_average,
            )
