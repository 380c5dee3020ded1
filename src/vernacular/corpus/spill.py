"""Pairs of a hash and a document's number, too many for memory: on disk by ranges of hashes, each sorted on its own."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from vernacular.corpus.configuration import Engine
from vernacular.foundation.errors import MachineError
from vernacular.foundation.native import NativeLibrary, address
from vernacular.foundation.progress import progress

_BYTES_TO_SORT = 64  # an entry of 16 bytes, about in order, and in order, and a count
_MOST_FILES = 1024
_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_long


@cache
def _native() -> ctypes.CDLL:
    return NativeLibrary(
        name="spill",
        title="functions that sort hashes",
        folder=Path(__file__).parent,
        sources=("spill.c",),
        signatures={"sort_entries": (_POINTER, _NUMBER, _POINTER, _POINTER)},
    ).load()


@dataclass(frozen=True)
class Spill:
    """Files of entries, those of similar hashes in one.

    Attributes:
        folder: where they lie.
        count: how many there are.
    """

    folder: Path
    count: int

    @classmethod
    def planned(cls, folder: Path, num_entries: int, engine: Engine) -> Spill:
        """As many files as make each small enough to be sorted in a 32nd of the memory; what lay there goes."""
        for stale in folder.iterdir():
            stale.unlink()
        return cls(folder, min(num_entries * _BYTES_TO_SORT // (engine.memory_bytes // 32) + 1, _MOST_FILES))

    def add(self, hashes: np.ndarray, numbers: np.ndarray) -> None:
        """Spill entries: uint64 [E], int64 [E]."""
        entries = np.empty((len(hashes), 2), dtype=np.uint64)
        entries[:, 0], entries[:, 1] = hashes, numbers
        bounds = np.array([0, len(hashes)])
        if self.count > 1:
            # The upper 32 bits, scaled: an even share of the hashes for each file, whatever their number.
            places = (hashes >> np.uint64(32)) * np.uint64(self.count) >> np.uint64(32)
            order = np.argsort(places, kind="stable")
            entries = entries[order]
            bounds = np.searchsorted(places[order], np.arange(self.count + 1))
        for place in range(self.count):
            with open(self.folder / f"{place:04d}.entries", "ab") as file:
                file.write(entries[bounds[place] : bounds[place + 1]].data)


def sorted_entries(folder: Path, doing: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each file the hashes (uint64 [E]), ascending, and the documents' numbers (int64 [E])."""
    for path in progress(sorted(folder.glob("*.entries")), doing=doing, unit="files"):
        entries = np.fromfile(path, dtype=np.uint64).reshape(-1, 2)
        hashes, numbers = np.empty(len(entries), dtype=np.uint64), np.empty(len(entries), dtype=np.int64)
        if _native().sort_entries(address(entries), len(entries), address(hashes), address(numbers)):
            raise MachineError("there is no memory to sort hashes", where=path, fix="free some memory")
        del entries
        yield hashes, numbers
