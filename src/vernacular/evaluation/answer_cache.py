"""Answers of finished evaluations, kept for later ones: a question that the same model was asked before costs nothing.

`$XDG_CACHE_HOME/vernacular/answers/WHO/N.jsonl`: WHO is the hash of everything that decides an answer beside the
request, namely the model's identity (weights, tokenizer, template, precision, kernels), the program's own code, the
versions of what it stands on, and the machine. The files are `AnswerFile`s, so that an altered line is refused.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from vernacular.foundation.errors import machine_errors
from vernacular.foundation.files import sha256_file, sha256_json
from vernacular.foundation.machine import describe_machine, package_versions

MOST_BYTES = 1 << 30
_ROOMS = ("evaluation", "inference", "kernels", "models", "tokens")
"""Whose code decides what a model answers to a request, and what a program that it wrote does."""


class AnswerCache:
    """A folder of answers, of which those used last are kept.

    Args:
        folder: the folder; it is made when something is put there.
        most_bytes: how much it holds at most.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder, self.most_bytes = folder, most_bytes

    def files(self, identity: Mapping[str, str]) -> list[Path]:
        """The files with answers of this model."""
        found = sorted(self._home(identity).glob("*.jsonl"))
        with machine_errors("using the cache of answers", self.folder):
            for path in found:
                os.utime(path)
        return found

    def keep(self, identity: Mapping[str, str], files: Iterable[Path]) -> None:
        """Move files with new answers of this model here, and remove what was not used for longest, if need be."""
        home = self._home(identity)
        with machine_errors("keeping answers", home):
            home.mkdir(parents=True, exist_ok=True)
            for path in files:
                if path.stat().st_size:
                    shutil.move(path, home / f"{sha256_file(path)[:32]}.jsonl")
                else:
                    path.unlink()
            self._shrink()

    def _home(self, identity: Mapping[str, str]) -> Path:
        return self.folder / sha256_json([dict(identity), code_hash(), package_versions(), describe_machine()])[:32]

    def _shrink(self) -> None:
        found = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.glob("*/*.jsonl"))
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= self.most_bytes:
                break
            path.unlink()
            total -= size
            if not any(path.parent.iterdir()):
                path.parent.rmdir()


@functools.cache
def code_hash() -> str:
    """Hash of the code that decides what a model answers."""
    root = Path(__file__).resolve().parents[1]
    paths = (path for room in _ROOMS for path in sorted((root / room).rglob("*")) if path.suffix in (".py", ".c", ".h"))
    return sha256_json([[str(path.relative_to(root)), sha256_file(path)] for path in paths])
