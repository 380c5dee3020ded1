"""Several processes answer an evaluation's requests together; the first alone asks, scores and writes the record.

Requests lie in a file of the evaluation's folder. Every process takes the next chunk of them until none is left, and
writes what it answers to a file of its own, which the first reads. An answer does not depend on who gives it or on
what else is in its batch, so the record is that of one process. A process that fails or is killed ends all; what was
answered is on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vernacular.evaluation.answer_file import ANSWERS, AnswerFile
from vernacular.evaluation.answers import ask_and_keep
from vernacular.foundation.files import read_json, write_json
from vernacular.models.language_model import LanguageModel, Report
from vernacular.parallel.processes import Processes

_REQUESTS = "requests.json"
_HOME = "home"
_LEAST, _MOST = 16, 512
_CHUNKS_PER_PROCESS = 8


class _Work(NamedTuple):
    """Requests of one kind, and which share this is of all that were asked for."""

    number: int
    kind: str
    requests: Sequence[tuple[str, Any]]


def answer_files(folder: Path) -> list[Path]:
    """What the processes of an evaluation have answered: the first one's file, if it is there, and the others'."""
    stem, suffix = ANSWERS.split(".")
    return [path for path in (folder / ANSWERS, *sorted(folder.glob(f"{stem}.*.{suffix}"))) if path.exists()]


class Crew:
    """The processes, as the first sees them.

    Args:
        processes: all of them.
        folder: the evaluation's.
    """

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes, self._folder = processes, folder
        self._asked = 0

    def answer(
        self, model: LanguageModel, file: AnswerFile, kind: str, requests: Mapping[str, Any], report: Report | None
    ) -> None:
        """Have all processes answer; on return every answer is in `file`."""
        self._asked += 1
        work = _Work(self._asked, kind, list(requests.items()))
        write_json(self._folder / _REQUESTS, work._asdict())
        self._processes.tell(str(work.number))
        reported = 0

        def own(count: int) -> None:
            nonlocal reported
            reported += count
            if report is not None:
                report(count)

        _do(work, model, file, self._processes, own)
        for rank in range(1, self._processes.size):
            file.take_in(_own_file(self._folder, rank))
        if report is not None:
            report(len(requests) - reported)

    def dismiss(self) -> None:
        """There is nothing more to answer. On return all have heard it, also those that were still reading weights."""
        (self._folder / _REQUESTS).unlink(missing_ok=True)
        self._processes.tell(_HOME)
        self._processes.meet(_HOME)


def follow(model: LanguageModel, folder: Path, processes: Processes) -> None:
    """Answer with the first process until it says that there is nothing more. For all others."""
    file = AnswerFile(_own_file(folder, processes.rank))
    while (said := processes.hear()) != _HOME:
        work = _Work(**read_json(folder / _REQUESTS))
        assert work.number == int(said)
        _do(work, model, file, processes, None)
    file.close()
    processes.meet(_HOME)


def _own_file(folder: Path, rank: int) -> Path:
    stem, suffix = ANSWERS.split(".")
    return folder / f"{stem}.{rank}.{suffix}"


def _do(work: _Work, model: LanguageModel, file: AnswerFile, processes: Processes, report: Report | None) -> None:
    """This process's part of the work; on return all have done theirs."""
    for chunk in _chunks(work, processes):
        ask_and_keep(model, file, work.kind, dict(chunk), report)
    processes.meet(f"answered/{work.number}")


def _chunks(work: _Work, processes: Processes) -> Iterator[Sequence[tuple[str, Any]]]:
    """The chunks that nobody else has taken, one at a time."""
    each = len(work.requests) // (_CHUNKS_PER_PROCESS * processes.size)
    size = min(max(each, _LEAST), _MOST)
    while (start := processes.next_number(f"chunks/{work.number}") * size) < len(work.requests):
        yield work.requests[start : start + size]
