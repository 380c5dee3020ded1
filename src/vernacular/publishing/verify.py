"""Is a card true? The scores are computed anew from the records, and the card is written anew and compared."""

from __future__ import annotations

import difflib
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vernacular.evaluation.scores import Score, differences, read_scores, rescore
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json, sha256_file
from vernacular.publishing.layout import CARD, EVALUATION, FILES, NUMBERS, README, SCORES
from vernacular.publishing.ledger import Entry, as_json
from vernacular.publishing.rendering import render_card, template_hash

_NUMBER = re.compile(r"[-+−]?\d(?:[\d.,]*\d)?(?:e[-+]?\d+)?%?")


@dataclass(frozen=True)
class Problem:
    """Something in a release that its records do not bear out.

    Attributes:
        where: file, and line or place within it.
        message: what stands there, and what should.
    """

    where: str
    message: str


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        numbers: how many numbers on the card were recomputed.
        scores: how many scores were recomputed from the recorded requests.
        problems: what is wrong; none means that the card is true to its records.
        edited: lines whose words were changed but none of whose numbers.
    """

    numbers: int
    scores: int
    problems: tuple[Problem, ...]
    edited: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(folder: Path) -> Verification:
    """Recompute every number of a release's card from its records, and compare.

    Raises:
        UserError: the folder is no release, has no scores, or was made by a version with another card template.
    """
    _check_is_release(folder)
    problems = _check_files(folder)
    recomputed = rescore(folder / EVALUATION)
    problems += _check_scores(folder, recomputed)
    text, entries = render_card(folder)
    found = (folder / README).read_text(encoding="utf-8")
    card_problems, edited = compare_cards(text, found, entries)
    problems += card_problems
    if read_json(folder / NUMBERS) != as_json(entries):
        problems.append(Problem(NUMBERS, "it differs from the numbers that the records give"))
    return Verification(len(entries), len(recomputed), tuple(problems), tuple(edited))


def _check_is_release(folder: Path) -> None:
    if not (folder / CARD).is_file() or not (folder / README).is_file():
        raise UserError("this is not a release", where=folder, fix="give the folder of a publish stage")
    if not (folder / EVALUATION / SCORES).is_file():
        raise UserError("no scores, no card", where=folder / EVALUATION, fix="publish again, with an evaluation")
    card = read_json(folder / CARD)
    if card["template_sha256"] != template_hash():
        raise UserError(
            f"the card was written by vernacular {card['version']} with another template",
            where=folder / CARD,
            fix=f"verify it with that version: pip install vernacular=={card['version']}",
        )


def _check_files(folder: Path) -> list[Problem]:
    problems = []
    for name, expected in read_json(folder / FILES).items():
        if not (folder / name).is_file():
            problems.append(Problem(name, "the file is missing"))
        elif sha256_file(folder / name) != expected:
            problems.append(Problem(name, f"the file was altered; its SHA-256 was {expected}"))
    return problems


def _check_scores(folder: Path, recomputed: list[Score]) -> list[Problem]:
    where = f"{EVALUATION}/{SCORES}"
    written = read_scores(folder / EVALUATION)["scores"]
    return [Problem(f"{where}#{place}", message) for place, message in differences(written, recomputed)]


def compare_cards(expected: str, found: str, entries: list[Entry]) -> tuple[list[Problem], list[str]]:
    """Lines of the card on disk that the records do not bear out, and lines whose words alone were edited."""
    ours, theirs = expected.split("\n"), found.split("\n")
    sources = {entry.line: [other for other in entries if other.line == entry.line] for entry in entries}
    problems: list[Problem] = []
    edited: list[str] = []
    matcher = difflib.SequenceMatcher(a=ours, b=theirs, autojunk=False)
    for kind, start, stop, start_found, stop_found in matcher.get_opcodes():
        if kind == "equal":
            continue
        shared = min(stop - start, stop_found - start_found)
        for offset in range(shared):
            where = f"{README}:{start_found + offset + 1}"
            before, after = ours[start + offset], theirs[start_found + offset]
            if _numbers(before) == _numbers(after):
                edited.append(where)
            else:
                problems.append(Problem(where, _explain(before, after, sources.get(start + offset + 1, []))))
        for number, line in enumerate(theirs[start_found + shared : stop_found], start=start_found + shared + 1):
            if _numbers(line):
                problems.append(Problem(f"{README}:{number}", f"no record has these numbers: {line.strip()}"))
            elif line.strip():
                edited.append(f"{README}:{number}")
        for line in ours[start + shared : stop]:
            if _numbers(line):
                problems.append(Problem(f"{README}:{stop_found}", f"a line is gone that stood here: {line.strip()}"))
    return problems, edited


def _numbers(line: str) -> list[str]:
    return _NUMBER.findall(line)


def _explain(expected: str, found: str, sources: list[Entry]) -> str:
    """Which number differs, what the record says, and where it stands; else both lines."""
    ours, theirs = _numbers(expected), _numbers(found)
    if len(ours) == len(theirs):
        for right, wrong in zip(ours, theirs, strict=True):
            if right != wrong:
                source = next((entry.source for entry in sources if right in _numbers(entry.printed)), None)
                return f"it says {wrong}; the record says {right}" + (f" ({source})" if source else "")
    return f"it says: {found.strip()}; the records give: {expected.strip()}"


def report(verification: Verification) -> str:
    """The findings as lines for people."""
    lines = [f"{problem.where}: {problem.message}" for problem in verification.problems]
    lines += [f"{where}: words edited, numbers as recorded" for where in verification.edited]
    if verification.passed:
        lines.append(
            f"true: {verification.numbers} numbers on the card agree with the records; "
            f"{verification.scores} scores recomputed"
        )
    else:
        lines.append(f"NOT true: {len(verification.problems)} places differ from the records")
    return "\n".join(lines)


def as_object(verification: Verification) -> dict[str, Any]:
    """The findings as JSON values."""
    return {**asdict(verification), "passed": verification.passed}
