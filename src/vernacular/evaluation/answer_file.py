"""A model's answers on disk, by content hash: what was asked once is not asked again, not even after `kill -9`.

A file is only ever appended to. Each line carries its own checksum. A line cut off at the file's end is what a kill
leaves, and is dropped; any other line that does not match its checksum was altered, and the file is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from vernacular.foundation.errors import UserError, machine_errors
from vernacular.foundation.files import sha256_bytes

ANSWERS = "answers.jsonl"

_CHECKSUM_LETTERS = 16


class Kept(NamedTuple):
    """An answer, the seconds it took, and whether another evaluation got it."""

    value: Any
    seconds: float
    is_cached: bool


class AnswerFile:
    """Answers by key, in memory and on disk.

    Args:
        path: the file; it is made, or continued.
        cached: files of earlier evaluations, which are only read.
    """

    def __init__(self, path: Path, cached: Iterable[Path] = ()) -> None:
        self.path = path
        self._known: dict[str, Kept] = {}
        self._read_to: dict[Path, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in cached:
            self._read(other, is_cached=True)
        self._file: BinaryIO = open(path, "ab")  # noqa: SIM115 - closed by close()
        self.take_in(path)
        self._file.truncate(self._read_to[path])

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Kept | None:
        """An answer, or None."""
        return self._known.get(key)

    def add(self, answers: Mapping[str, Any], seconds: float) -> None:
        """Write answers, each of which took `seconds`; on return they are on the disk."""
        with machine_errors("writing answers", self.path):
            for key, value in answers.items():
                content = json.dumps([key, round(seconds, 6), value], ensure_ascii=False).encode()
                self._file.write(_checksum(content) + b" " + content + b"\n")
                self._known[key] = Kept(value, round(seconds, 6), is_cached=False)
            self._file.flush()
            os.fsync(self._file.fileno())

    def take_in(self, path: Path) -> None:
        """Read what another file of the same evaluation holds, from where it was read to before."""
        self._read(path, is_cached=False)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, path: Path, *, is_cached: bool) -> None:
        """Read whole lines."""
        start = self._read_to.setdefault(path, 0)
        with open(path, "rb") as lines:
            lines.seek(start)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                checksum, _, content = line.rstrip(b"\n").partition(b" ")
                if checksum != _checksum(content):
                    number = path.read_bytes()[: self._read_to[path]].count(b"\n") + 1
                    raise UserError(
                        "the line does not match its checksum: the file was altered",
                        where=f"{path}:{number}",
                        fix="remove the file; what it holds will be asked again",
                    )
                key, seconds, value = json.loads(content)
                self._known[key] = Kept(value, seconds, is_cached)
                self._read_to[path] += len(line)


def _checksum(content: bytes) -> bytes:
    return sha256_bytes(content)[:_CHECKSUM_LETTERS].encode()
