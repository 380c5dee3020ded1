"""What a batch has finished so far: a file beside the answers that outlives a kill at any moment.

Its first line says what the answers depend on. Each further line is a record: number and hash of the prompt's line,
whether it failed, and the answer's line. What a kill or a broken disk left at the end, from the first record that is
none, is dropped and answered anew. A file that was not begun by a batch is never written to.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError, machine_errors
from vernacular.foundation.files import atomic_path, fsync_path
from vernacular.inference.batch_lines import Line

VERSION = 1
_RECORD = re.compile(rb"([1-9][0-9]{0,17}) ([0-9a-f]{32}) ([01]) (\{.*\})\n")


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
        try:
            answers.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b")  # noqa: SIM115 - kept open as long as the ledger
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", where=self.path, fix="choose another -o") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise UserError(
                "another run is writing these answers", where=self.path, fix="wait for it, or choose another -o"
            ) from error
        try:
            self._continue(dict(depends_on))
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def holds(self, line: Line) -> bool:
        """Whether this very line is finished."""
        place = self._places.get(line.number)
        return place is not None and place[1] == line.hash

    def add(self, line: Line, answer: bytes, *, is_error: bool) -> None:
        """Note the answer to a line; once this returns, neither a kill nor a power cut loses it."""
        place = self._file.seek(0, os.SEEK_END)
        self._write(_record(line.number, line.hash, is_error, answer))
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
                record = _parse(self._file.readline())
                if record is None:
                    raise UserError("another program changed it", where=self.path, fix="run the same command again")
                number, _, is_error, answer = record
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
        """Read what is there, cut off from the first record that is none, or begin."""
        self._file.seek(0)
        first = self._file.readline()
        header = (
            json.dumps({"vernacular_batch": VERSION, "depends_on": depends_on}, ensure_ascii=False).encode() + b"\n"
        )
        # Nothing, or a beginning of ours that a kill cut short.
        if header.startswith(first) and first != header:
            self._file.truncate(0)
            self._write(header)
            fsync_path(self.path.parent)
            return
        self._check(first, depends_on)
        place = len(first)
        for content in self._file:
            record = _parse(content)
            if record is None:
                self._file.truncate(place)
                break
            self._places[record[0]] = (place, record[1])
            place += len(content)

    def _write(self, content: bytes) -> None:
        with machine_errors("writing", self.path):
            self._file.write(content)
            self._file.flush()
            os.fsync(self._file.fileno())

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


def _parse(content: bytes) -> tuple[int, str, bool, bytes] | None:
    """Line number, the line's hash, whether it failed, the answer; None where it is no record."""
    record = _RECORD.fullmatch(content)
    if record is None:
        return None
    try:
        json.loads(record[4])
    except ValueError:
        return None
    return int(record[1]), record[2].decode("ascii"), record[3] == b"1", record[4]
