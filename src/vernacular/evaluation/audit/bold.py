"""Bold on the wrong side: a number set in bold though another in its comparison is better."""

from __future__ import annotations

from collections.abc import Iterator

from vernacular.evaluation.audit.finding import Evidence, Finding, best_of
from vernacular.evaluation.audit.readings import Reading, ScoreTable


def check_bold(evidence: Evidence) -> Iterator[Finding]:
    """Compare what is bold with what is best: across a row of models, or down a column within its section."""
    for table in evidence.tables:
        if _emphasises(table, evidence.own_model):
            continue
        for readings in _comparisons(table):
            bold = [reading for reading in readings if reading.number.bold]
            best = best_of(readings)
            wrong = [reading for reading in bold if reading not in best]
            if wrong and len(readings) > 1:
                yield evidence.finding("bold", wrong[0].line, _explain(wrong, best))


def _comparisons(table: ScoreTable) -> Iterator[list[Reading]]:
    groups: dict[tuple[object, ...], list[Reading]] = {}
    for reading in table.readings:
        place = (reading.line,) if table.rows_are == "benchmarks" else (reading.section, reading.column)
        groups.setdefault(place, []).append(reading)
    yield from groups.values()


def _emphasises(table: ScoreTable, own: str | None) -> bool:
    """Whether bold marks all numbers of the card's own model and no others: whose they are, not which are best."""
    ours = [reading for reading in table.readings if reading.model == own]
    return len(ours) > 1 and all(reading.number.bold == (reading.model == own) for reading in table.readings)


def _explain(wrong: list[Reading], best: list[Reading]) -> str:
    losers = ", ".join(f"{reading.value} ({reading.model})" for reading in wrong)
    winners = ", ".join(f"{reading.value} ({reading.model})" for reading in best)
    which = "higher" if best[0].higher_is_better else "lower"
    first = wrong[0]
    places = (first.column, first.section.rstrip(": ")) if first.row == first.model else (first.row,)
    name = ", ".join(filter(None, places))
    return f"{name}: bold stands at {losers}, but the best is {winners} ({which} is better)"
