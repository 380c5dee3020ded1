"""Which tasks of the library a suite runs: all of them, or those whose data is there, and what that leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from vernacular.evaluation.library.benchmark import LibraryTask, library
from vernacular.evaluation.library.placing import both_ways, is_there
from vernacular.evaluation.metrics.answers import BERT_SCORES
from vernacular.evaluation.suites.suite import Suite
from vernacular.foundation.errors import UserError, unknown_name

NO_TASK = "the library has no task for it yet"
NO_DATA = "its data is not there"
NO_CODE = "its programs are run only with --allow-code-execution"
NO_JUDGE = "it needs a judge (--judge)"
NO_ENCODER = "its BERTScore needs an encoder (--bert-score, --bert-score-layer)"
NOT_ASKED = "it was not asked for"


class Wanted(NamedTuple):
    """A task to run, and the number of examples before each question; None = as the task says."""

    entry: LibraryTask
    shots: int | None


class Selection(NamedTuple):
    """What runs, and what does not: the reason by task, or by benchmark where that has no task."""

    tasks: tuple[Wanted, ...]
    left_out: Mapping[str, str]


def by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of what is left out, by the reason."""
    found: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        found.setdefault(reason, []).append(name)
    return found


def select(
    suite: Suite,
    folder: Path | None,
    *,
    only: Sequence[str] = (),
    only_available: bool = False,
    code: bool = True,
    judge: bool = True,
    encoder: bool = True,
) -> Selection:
    """The suite's tasks.

    Args:
        suite: the suite.
        folder: the folder of --data; None asks the Hub.
        only: names of tasks, * and ? allowed; all others of the suite are left out.
        only_available: whether tasks whose data is not in the folder are left out rather than refused.
        code: whether programs that the model writes may be run; if not, `only_available` leaves their tasks out.
        judge: whether there is a judge; if not, likewise.
        encoder: whether there is an encoder for BERTScore; if not, likewise.

    Raises:
        UserError: a benchmark has no task, or a task no data; all are named, and both ways to give the first.
    """
    if only_available and folder is None:
        raise UserError("--only-available looks into the folder of --data", where="--data", fix="name that folder")
    wanted: dict[str, Wanted] = {}
    left_out: dict[str, str] = {}
    for member in suite.members:
        names = [name for name in library() if member.has(name)]
        if not names:
            left_out[member.benchmark] = NO_TASK
        for name in names:
            if folder is not None and not is_there(library()[name], folder):
                left_out[name] = NO_DATA
            elif only_available and library()[name].task.code is not None and not code:
                left_out[name] = NO_CODE
            elif only_available and library()[name].task.judge is not None and not judge:
                left_out[name] = NO_JUDGE
            elif only_available and _needs_encoder(library()[name]) and not encoder:
                left_out[name] = NO_ENCODER
            else:
                wanted[name] = Wanted(library()[name], member.shots)
    if only:
        return _only(suite, wanted, left_out, only)
    if left_out and not only_available:
        raise _incomplete(suite, left_out, folder)
    if not wanted:
        raise _incomplete(suite, left_out, folder, rest=False)
    return Selection(tuple(wanted.values()), left_out)


def _needs_encoder(entry: LibraryTask) -> bool:
    return any(metric in BERT_SCORES for metric in entry.task.metrics)


def select_by_name(patterns: Sequence[str], folder: Path | None) -> Selection:
    """Tasks of the library by their names, of a suite or not; * and ? allowed.

    Raises:
        UserError: no task has the name, or one has no data in the folder; both ways to give it are named.
    """
    chosen: dict[str, Wanted] = {}
    for pattern in patterns:
        names = [name for name in library() if fnmatchcase(name, pattern)]
        if not names:
            raise unknown_name("task of the library", pattern, library(), where="--only")
        chosen |= {name: Wanted(library()[name], None) for name in names}
    for name, wanted in chosen.items():
        if folder is not None and not is_there(wanted.entry, folder):
            raise UserError(f"the data of '{name}' is not there", where=folder, fix=both_ways(wanted.entry.data))
    return Selection(tuple(chosen.values()), {})


def _only(suite: Suite, wanted: Mapping[str, Wanted], left_out: Mapping[str, str], only: Sequence[str]) -> Selection:
    known = [*wanted, *left_out]
    for pattern in only:
        matching = [name for name in known if fnmatchcase(name, pattern)]
        if not matching:
            raise unknown_name(f"task of the suite {suite.name}", pattern, known, where="--only")
        if not any(name in wanted for name in matching):
            raise _incomplete(suite, {name: left_out[name] for name in matching}, None)
    chosen = {name: one for name, one in wanted.items() if any(fnmatchcase(name, pattern) for pattern in only)}
    rest = {name: NOT_ASKED for name in wanted if name not in chosen}
    return Selection(tuple(chosen.values()), {**left_out, **rest})


def _incomplete(suite: Suite, left_out: Mapping[str, str], folder: Path | None, *, rest: bool = True) -> UserError:
    what = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in by_reason(left_out).items())
    first = next((name for name, reason in left_out.items() if reason == NO_DATA), None)
    how = f"{first}: {both_ways(library()[first].data)}. " if first else ""
    if not rest:
        return UserError(
            f"of the suite '{suite.name}' no task can be run: {what}",
            where=folder or "--suite",
            fix=how.strip() or None,
        )
    return UserError(
        f"the suite '{suite.name}' is not complete: {what}",
        where=folder or "--suite",
        fix=f"{how}Or run the rest with --only-available, or name tasks with --only; no headline is computed then",
    )
