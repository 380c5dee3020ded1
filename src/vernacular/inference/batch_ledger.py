"""What a batch has finished so far: a file beside the answers that outlives a kill at any moment.

Its first line says what the answers depend on. Each further line is a record: number and hash of the prompt's line,
whether it failed, and the answer's line. A record that a kill cut short is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path, fsync_path
from vernacular.inference.batch_lines import Line

VERSION = 1


class Ledger:
    """The finished lines of a batch.

    Args:
        answers: where the answers are to be in the end.
        depends_on: everything that decides the answers beside the prompts: model and settings, by name.

    Raises:
        UserError: another run is writing it, or an earlier one had other settings or weights.
    """

    def __init__(self, answers: Path, depends_on: Mapping[str, Any]) -> None:
        self.path = answers.with_name(f"{answers.name}.partial")
        self._answers = answers
        self._places: dict[int, tuple[int, str]] = {}
        answers.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")  # noqa: SIM115 - kept open as long as the ledger
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise UserError(
                "another run is writing these answers", where=self.path, fix="wait for it, or choose another -o"
            ) from error
        try:
            self._continue(dict(depends_on))
        except UserError:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def holds(self, line: Line) -> bool:
        """Whether this very line is finished."""
        place = self._places.get(line.number)
        return place is not None and place[1] == line.hash

    def add(self, line: Line, answer: bytes, *, is_error: bool) -> None:
        """Note the answer to a line; once this returns, a kill does not lose it."""
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(_record(line.number, line.hash, is_error, answer))
        self._file.flush()
        self._places[line.number] = (place, line.hash)

    def publish(self, lines: Iterator[Line]) -> tuple[int, list[int]]:
        """Write the answers' file, in the order of `lines`, and remove the ledger.

        Returns:
            How many lines were answered, and the numbers of those that failed.
        """
        answered, failures = 0, []
        with atomic_path(self._answers) as temporary, open(temporary, "wb") as target:
            for line in lines:
                place, found = self._places.get(line.number, (0, ""))
                if found != line.hash:
                    raise UserError(
                        "the file of prompts was changed while it was being answered",
                        where=f"line {line.number}",
                        fix="run the same command again: only changed lines are answered anew",
                    )
                self._file.seek(place)
                number, _, is_error, answer = _parse(self._file.readline())
                if is_error:
                    failures.append(number)
                else:
                    answered += 1
                target.write(answer + b"\n")
        self.path.unlink()
        fsync_path(self.path.parent)
        self.close()
        return answered, failures

    def close(self) -> None:
        """Close the file and let others have it."""
        self._file.close()

    def _continue(self, depends_on: dict[str, Any]) -> None:
        """Read what is there, cut off a record that was not finished, or begin."""
        self._file.seek(0)
        first = self._file.readline()
        if not first.endswith(b"\n"):
            self._file.truncate(0)
            header = {"vernacular_batch": VERSION, "depends_on": depends_on}
            self._file.write(json.dumps(header, ensure_ascii=False).encode("utf-8") + b"\n")
            self._file.flush()
            return
        self._check(first, depends_on)
        place = len(first)
        for record in self._file:
            if not record.endswith(b"\n"):
                self._file.truncate(place)
                break
            number, line_hash, _, _ = _parse(record)
            self._places[number] = (place, line_hash)
            place += len(record)

    def _check(self, first: bytes, depends_on: dict[str, Any]) -> None:
        try:
            header = json.loads(first)
            before = header["depends_on"] if header["vernacular_batch"] == VERSION else None
        except (ValueError, KeyError, TypeError):
            before = None
        if not isinstance(before, dict):
            raise UserError(
                "this is no unfinished batch of this version", where=self.path, fix="move it away, or choose another -o"
            )
        now = json.loads(json.dumps(depends_on))
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if changed:
            listed = "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in changed)
            raise UserError(
                f"the answers so far were made otherwise: {listed}",
                where=self.path,
                fix="run it as before to continue, or remove this file to start anew",
            )


def _record(number: int, line_hash: str, is_error: bool, answer: bytes) -> bytes:
    return b"%d %s %d %s\n" % (number, line_hash.encode("ascii"), is_error, answer)


def _parse(record: bytes) -> tuple[int, str, bool, bytes]:
    number, line_hash, is_error, answer = record.rstrip(b"\n").split(b" ", 3)
    return int(number), line_hash.decode("ascii"), is_error == b"1", answer
