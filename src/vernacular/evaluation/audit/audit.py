"""A model card, or several together, audited: every check on every card, and what the cards say of one another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vernacular.evaluation.audit.agreement import check_agreement
from vernacular.evaluation.audit.architecture import check_architecture
from vernacular.evaluation.audit.averages import check_averages
from vernacular.evaluation.audit.bold import check_bold
from vernacular.evaluation.audit.claims import check_claims
from vernacular.evaluation.audit.dates import check_dates
from vernacular.evaluation.audit.finding import Evidence, Finding, Result, Unchecked
from vernacular.evaluation.audit.labels import check_labels, index_readings
from vernacular.evaluation.audit.licences import check_licences
from vernacular.evaluation.audit.markdown import read_card
from vernacular.evaluation.audit.plausibility import check_plausibility
from vernacular.evaluation.audit.snippets import check_snippets

CHECKS: Sequence[Callable[[Evidence], Iterable[Result]]] = (
    check_bold,
    check_averages,
    check_claims,
    check_plausibility,
    check_labels,
    check_licences,
    check_architecture,
    check_dates,
    check_snippets,
)


@dataclass(frozen=True)
class Audit:
    """What an audit gave.

    Attributes:
        files: the cards.
        tables: how many tables of scores they have.
        numbers: how many numbers stand in those and in their model indices.
        findings: what does not hold together, by file and line.
        unchecked: statements that the cards neither bear out nor refute.
    """

    files: tuple[str, ...]
    tables: int
    numbers: int
    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def audit(paths: Sequence[Path]) -> Audit:
    """Audit model cards. They are read as data: nothing on them is run or fetched.

    Raises:
        UserError: a file is missing, too large, or not UTF-8.
    """
    cards = [Evidence(read_card(path)) for path in paths]
    results = [result for card in cards for result in _check(card)] + list(check_agreement(cards))
    order = {str(path): place for place, path in enumerate(paths)}
    results = sorted(dict.fromkeys(results), key=lambda result: (order[result.file], result.line))
    return Audit(
        files=tuple(map(str, paths)),
        tables=sum(len(card.tables) for card in cards),
        numbers=sum(len(table.readings) for card in cards for table in card.tables)
        + sum(len(index_readings(card)) for card in cards),
        findings=tuple(result for result in results if isinstance(result, Finding)),
        unchecked=tuple(result for result in results if isinstance(result, Unchecked)),
    )


def _check(card: Evidence) -> Iterator[Result]:
    for line, message in card.card.problems:
        yield card.finding("front-matter", line, message)
    for check in CHECKS:
        yield from check(card)


def report(found: Audit) -> str:
    """The audit as lines for people. Control characters of the cards' text are shown, not obeyed."""
    lines = [f"{finding.file}:{finding.line}: [{finding.kind}] {finding.message}" for finding in found.findings]
    lines += [f"{one.file}:{one.line}: not checked: {one.message}" for one in found.unchecked]
    counted = f"{found.numbers:,} numbers in {found.tables} tables of scores"
    lines.append(f"{len(found.findings)} findings; {counted}" if found.findings else f"nothing found; {counted}")
    return "\n".join(map(_visible, lines))


def _visible(line: str) -> str:
    return "".join(letter if letter.isprintable() or letter == "\u200d" else f"\\x{ord(letter):02x}" for letter in line)


def as_object(found: Audit) -> dict[str, Any]:
    """The audit as JSON values."""
    return {**asdict(found), "passed": found.passed}
