"""The ledger of unfinished work: which pieces are finished, so that a killed run goes on where it was.

A piece is some files and the facts about them. It is entered last, with the files' checksums; what is not entered, or
whose files are not what was entered, is done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vernacular.foundation.files import canonical_json, read_json, sha256_file, write_json

_KEY = "key.json"
_ENTRIES = "finished"


@dataclass(frozen=True)
class Ledger:
    """What is finished below a folder.

    Attributes:
        folder: where the pieces' files lie.
    """

    folder: Path

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, Any]) -> Ledger:
        """Open the ledger of the work that `key` describes; work of another key is removed."""
        found = folder / _KEY
        if not found.is_file() or canonical_json(read_json(found)) != canonical_json(dict(key)):
            shutil.rmtree(folder, ignore_errors=True)
            write_json(found, dict(key))
        return cls(folder)

    def part(self, name: str) -> Path:
        """A folder of its own for one kind of files."""
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def finished(self, piece: str) -> dict[str, Any] | None:
        """The facts about a finished piece whose files are whole, or None."""
        path = self._entry(piece)
        if not path.is_file():
            return None
        entry = read_json(path)
        for name, checksum in entry["files"].items():
            file = self.folder / name
            if not file.is_file() or sha256_file(file) != checksum:
                path.unlink()
                return None
        return dict(entry["facts"])

    def finish(self, piece: str, files: Sequence[Path], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Enter a piece; returns its facts."""
        checksums = {str(file.relative_to(self.folder)): sha256_file(file) for file in files}
        write_json(self._entry(piece), {"files": checksums, "facts": dict(facts)})
        return dict(facts)

    def facts(self, prefix: str, known: set[str]) -> Iterator[dict[str, Any]]:
        """The facts about pieces whose names begin so and are not `known` yet; they are afterwards."""
        folder = self.folder / _ENTRIES
        for path in folder.glob(f"{prefix}*.json") if folder.is_dir() else ():
            if path.name not in known:
                known.add(path.name)
                yield dict(read_json(path)["facts"])

    def discard(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _entry(self, piece: str) -> Path:
        return self.folder / _ENTRIES / f"{piece}.json"
