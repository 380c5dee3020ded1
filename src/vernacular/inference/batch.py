"""A file of prompts becomes a file of answers, in the same order, whatever happens on the way.

Lines are read some hundreds ahead of the engine, the longest prompts of each window first. What is finished goes into
a ledger at once (`batch_ledger`), so a run that was killed goes on where it stood; what an answer is does not depend
on what else is being answered, so the file comes out the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple

from vernacular.foundation.errors import UserError
from vernacular.foundation.progress import progress
from vernacular.inference.answer import Answer
from vernacular.inference.batch_ledger import Ledger
from vernacular.inference.batch_lines import Line, LineError, Pending, answered, failed, prepare, read_lines
from vernacular.models.language_model import Sampling

if TYPE_CHECKING:
    from vernacular.inference.model import LocalModel

WINDOW = 1024
"""Lines that are read at once; as many more are read when half of them are answered."""


class Summary(NamedTuple):
    """How a batch went: lines answered, and the numbers of those that failed."""

    answered: int
    failures: list[int]


def answer_file(lm: LocalModel, prompts: Path, answers: Path, sampling: Sampling, *, window: int = WINDOW) -> Summary:
    """Answer each line of `prompts` in a line of `answers`.

    Args:
        lm: who answers.
        prompts: JSON Lines: {"prompt": TEXT} or {"messages": [...]}, with fields of `Sampling` where a line wants
            other settings, and an id. Blank lines are passed over.
        answers: written whole at the end; until then `ANSWERS.partial` holds what is finished.
        sampling: settings of lines that have none of their own.
        window: lines read at once: memory is bounded by it.

    Raises:
        UserError: a file is missing or there already, or the unfinished one was made with other settings or weights.
            What is wrong with a single line is written into its answer instead.
    """
    total = check_files(prompts, answers)
    ledger = Ledger(answers, {**lm.identity, **sampling.model_dump(mode="json")})
    try:
        with progress(doing="answering", total=total, unit="lines") as bar:
            _Run(lm, ledger, sampling, window, bar).through(read_lines(prompts))
        return Summary(*ledger.publish(read_lines(prompts)))
    finally:
        ledger.close()


def check_files(prompts: Path, answers: Path) -> int:
    """The number of prompts, once it is sure that they can be read, and the answers written.

    Raises:
        UserError: there are no prompts, the answers are there already, or their folder cannot be written.
    """
    try:
        total = sum(1 for _ in read_lines(prompts))
    except FileNotFoundError as error:
        raise UserError("file not found", where=prompts, fix="check the path") from error
    except OSError as error:
        raise UserError(f"the prompts cannot be read: {error.strerror}", where=prompts, fix="name a file") from error
    if not total:
        raise UserError("the file holds no prompts", where=prompts, fix='write a line for each: {"prompt": "…"}')
    if answers.is_dir():
        raise UserError("this is a folder, not a file", where=answers, fix="name a file with -o")
    if answers.exists():
        raise UserError("the answers are there already", where=answers, fix="remove the file, or choose another -o")
    try:
        answers.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=answers.parent):
            pass
    except OSError as error:
        raise UserError(
            f"the answers cannot be written there: {error.strerror}", where=answers, fix="choose another -o"
        ) from error
    return total


class _Run:
    """Keeps the engine fed with lines, and the ledger with answers."""

    def __init__(self, lm: LocalModel, ledger: Ledger, sampling: Sampling, window: int, bar: Any) -> None:
        self._lm = lm
        self._ledger = ledger
        self._sampling = sampling
        self._window = window
        self._bar = bar
        self._pending: dict[int, Pending] = {}

    def through(self, lines: Iterator[Line]) -> None:
        """Answer all lines that the ledger does not hold."""
        engine = self._lm.engine
        try:
            while True:
                if len(self._pending) <= self._window // 2:
                    is_over = not self._take(lines)
                    if is_over and not self._pending:
                        return
                for answer in engine.step():
                    if answer.stopped_by is not None:
                        self._finish(answer)
        finally:
            for pending in self._pending.values():
                engine.cancel(pending.answer)

    def _take(self, lines: Iterator[Line]) -> bool:
        """Submit the next window, longest prompts first; return whether there was anything left."""
        window = list(islice(lines, self._window))
        prepared = [pending for line in window if (pending := self._prepare(line)) is not None]
        for pending in sorted(prepared, key=lambda pending: -len(pending.answer.prompt)):
            try:
                self._lm.engine.submit(pending.answer)
            except UserError as error:
                self._refuse(pending.line, LineError(error, pending.task.id))
            else:
                self._pending[id(pending.answer)] = pending
        return bool(window)

    def _prepare(self, line: Line) -> Pending | None:
        if self._ledger.holds(line):
            self._bar.update(1)
            return None
        try:
            return prepare(self._lm, line, self._sampling)
        except LineError as error:
            self._refuse(line, error)
            return None

    def _refuse(self, line: Line, error: LineError) -> None:
        self._ledger.add(line, failed(line, error), is_error=True)
        self._bar.update(1)

    def _finish(self, answer: Answer) -> None:
        pending = self._pending.pop(id(answer))
        content, is_error = answered(self._lm, pending)
        self._ledger.add(pending.line, content, is_error=is_error)
        self._bar.update(1)
