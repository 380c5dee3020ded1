"""Claims of the prose, counted again in the tables: wins, places, averages, bests."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from decimal import Decimal

from vernacular.evaluation.audit.averages import plain_mean
from vernacular.evaluation.audit.cells import Number, plain
from vernacular.evaluation.audit.finding import Evidence, Result, best_of, short
from vernacular.evaluation.audit.markdown import Line
from vernacular.evaluation.audit.readings import Reading, ScoreTable
from vernacular.evaluation.benchmarks import data, find_benchmark, key

_LONGEST = 4000


@functools.cache
def _patterns(kind: str) -> list[re.Pattern[str]]:
    return [re.compile(text, re.IGNORECASE) for texts in data("claims.yaml")[kind].values() for text in texts]


def check_claims(evidence: Evidence) -> Iterator[Result]:
    """Hold each claim that is understood against the table it speaks of."""
    for line in evidence.card.lines:
        text = plain(line.text)[:_LONGEST]
        for pattern in _patterns("counts"):
            for match in pattern.finditer(text):
                yield from _check_count(evidence, line, text, int(match["count"]), int(match["total"]))
        for pattern in _patterns("averages"):
            for match in pattern.finditer(text):
                yield from _check_average(evidence, line, match["ours"], match["theirs"])
        for pattern in _patterns("best"):
            for match in pattern.finditer(text):
                yield from _check_best(evidence, line, match["benchmark"])


# ------------------------------------------------------------------------------------------------------- counts


def _check_count(evidence: Evidence, line: Line, text: str, count: int, total: int) -> Iterator[Result]:
    table = _table_of(evidence, text, total)
    own = evidence.own_model
    if table is None or own is None:
        yield evidence.unchecked(line.number, f"'{count} out of {total}': no table of {total} benchmarks has the model")
        return
    rank = next((match for pattern in _patterns("ranks") if (match := pattern.search(text))), None)
    if rank is not None:
        places = [_place(row, own) for row in _rows(table)]
        found = sum(place is not None and place <= int(rank["k"]) for place in places)
        if found != count:
            message = f"'{rank[0]} … {count} out of {total}': in {table.name} it is {found} of {total}"
            yield evidence.finding("claim", line.number, message)
        return
    opponent = _opponent(table, own, text)
    if opponent is None:
        yield evidence.unchecked(line.number, f"'{count} out of {total}': against which model is not said")
        return
    wins, ties, losses = tally(table, own, opponent)
    if not wins <= count <= wins + ties:
        yield evidence.finding(
            "claim",
            line.number,
            f"'{count} out of {total}': in {table.name} {own} is ahead of {opponent} on {wins}, "
            f"level on {ties}, behind on {losses}",
        )


def tally(table: ScoreTable, ours: str, theirs: str) -> tuple[int, int, int]:
    """Rows where one model is ahead of another, level with it, behind it; averages do not count."""
    wins = ties = losses = 0
    for row in _rows(table):
        values = {reading.model: reading for reading in row}
        if ours in values and theirs in values:
            difference = values[ours].value - values[theirs].value
            ahead = difference if values[ours].higher_is_better else -difference
            wins, ties, losses = wins + (ahead > 0), ties + (ahead == 0), losses + (ahead < 0)
    return wins, ties, losses


def _rows(table: ScoreTable) -> list[list[Reading]]:
    """The numbers of each benchmark, all models together; averages left out."""
    rows: dict[str, list[Reading]] = {}
    for reading in table.readings:
        if not reading.is_average:
            place = reading.row if table.rows_are == "benchmarks" else reading.column
            rows.setdefault(place, []).append(reading)
    return list(rows.values())


def _place(row: list[Reading], model: str) -> int | None:
    """The model's place among the row's; level ones share the better place."""
    own = next((reading for reading in row if reading.model == model), None)
    if own is None:
        return None
    up = own.higher_is_better
    return 1 + sum(reading.value > own.value if up else reading.value < own.value for reading in row)


def _table_of(evidence: Evidence, text: str, total: int) -> ScoreTable | None:
    """The table with that many benchmarks; of several the one whose heading the sentence names."""
    fitting = [table for table in evidence.tables if len(_rows(table)) == total]
    named = [table for table in fitting if table.headings and key(plain(table.headings[-1])) in key(text)]
    return next(iter(named or fitting), None)


def _opponent(table: ScoreTable, own: str, text: str) -> str | None:
    others = [model for model in dict.fromkeys(reading.model for reading in table.readings) if model != own]
    named = [model for model in others if key(model) in key(text)]
    candidates = named or others
    return candidates[0] if len(candidates) == 1 else None


# ------------------------------------------------------------------------------------------- averages and bests


def _check_average(evidence: Evidence, line: Line, ours: str, theirs: str) -> Iterator[Result]:
    own = evidence.own_model
    tables = [table for table in evidence.tables if own and _opponent(table, own, line.text) and len(_rows(table)) > 2]
    if own is None or not tables:
        yield evidence.unchecked(line.number, f"'average of {ours} against {theirs}': no table compares two models")
        return
    said = (_number(ours), _number(theirs))
    for table in tables:
        opponent = _opponent(table, own, line.text) or ""
        given = (plain_mean(table, own), plain_mean(table, opponent))
        if all(
            value is not None and abs(value - one.value) <= one.half_unit * 2
            for value, one in zip(given, said, strict=True)
        ):
            return
    printed = [str(reading.value) for reading in tables[0].readings if reading.is_average]
    shown = " and ".join(short(value) for value in given if value is not None)
    beside = f"; its row of averages prints {' and '.join(printed)}" if printed else ""
    yield evidence.finding(
        "claim",
        line.number,
        f"'average of {ours} against {theirs}': {tables[0].name} gives {shown} ({own}, {opponent}){beside}",
    )


def _number(text: str) -> Number:
    return Number(Decimal(text.replace(",", ".")), False, "")


def _check_best(evidence: Evidence, line: Line, name: str) -> Iterator[Result]:
    benchmark = find_benchmark(name)
    wanted = benchmark.name if benchmark else name
    readings = [
        reading
        for table in evidence.tables
        for reading in table.readings
        if key(reading.benchmark) == key(wanted) and not reading.is_average
    ]
    if not readings or evidence.own_model is None:
        yield evidence.unchecked(line.number, f"'the best score in {name}': no table has it")
        return
    best = best_of(readings)
    if evidence.own_model not in {reading.model for reading in best}:
        winner = f"{best[0].model} with {best[0].value}"
        yield evidence.finding("claim", line.number, f"'the best score in {name}': the table's best is {winner}")
