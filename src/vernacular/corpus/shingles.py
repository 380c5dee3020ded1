"""Shingles: the overlapping runs of words or graphemes by which near-duplicates are compared, and their MinHash.

Words are lower case, without punctuation; in scripts that separate no words every letter is one. Everything is 64-bit
hashes and integer arithmetic in C (near_duplicates.c): the same on every machine. MinHash is Broder's (On the
resemblance and containment of documents, 1997), its bands Leskovec, Rajaraman and Ullman's (Mining of Massive
Datasets, chapter 3).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from vernacular.corpus.codepoints import DIGIT, JOINER, LETTER, MARK, class_table, unspaced_table, viramas
from vernacular.corpus.configuration import NearDuplicates
from vernacular.corpus.words import mixed
from vernacular.foundation.errors import MachineError, UserError
from vernacular.foundation.native import FLAGS, Arguments, NativeLibrary, address

# Probability that two documents exactly at the threshold become candidates, at least.
_RECALL = 0.999
_LANES = 16  # permutations that the C code takes at once, at least
_CODE_BITS = 21
_OUTSIDE, _BASE, _EXTENDS, _ALONE, _LINKER, _JOINER = range(6)

_WORD, _INT, _REAL, _POINTER = ctypes.c_long, ctypes.c_int, ctypes.c_double, ctypes.c_void_p
_TEXTS = (_WORD, _INT, _POINTER, _POINTER, _POINTER, _WORD)  # size, by grapheme, table, text, offsets, count
_SIGNATURES: dict[str, Arguments] = {
    "shingle_texts": (*_TEXTS, _POINTER, _POINTER),
    "minhash_bands": (*_TEXTS, _POINTER, _POINTER, _WORD, _WORD, _WORD, _WORD, _POINTER),
    "sort_shingles": (_POINTER, _POINTER, _WORD),
    "join_buckets": (_POINTER, _POINTER, _WORD, _POINTER),
    "find_roots": (_POINTER, _WORD),
    "join_similar": (_POINTER, _WORD, _POINTER, _POINTER, _POINTER, _REAL, _POINTER, _POINTER),
    "similarities": (_POINTER, _POINTER, _POINTER, _POINTER, _WORD, _POINTER),
}


@cache
def native() -> ctypes.CDLL:
    """The compiled functions of near_duplicates.c.

    Raises:
        MachineError: there is no C compiler, or nowhere to keep what it makes.
    """
    return NativeLibrary(
        name="near-duplicates",
        title="functions for near-duplicates",
        folder=Path(__file__).parent,
        sources=("near_duplicates.c",),
        headers=("hashing.h",),
        signatures=_SIGNATURES,
        flags=(*FLAGS, "-mprefer-vector-width=512"),
        otherwise=", or switch near-duplicates off with `near_duplicates: {enabled: false}`",
    ).load()


@dataclass(frozen=True)
class Shingles:
    """The shingles of D texts.

    Attributes:
        hashes: uint64, those of one text after those of another.
        ends: int64 [D + 1]; text d has `hashes[ends[d]:ends[d + 1]]`.
    """

    hashes: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, texts: pa.Array, settings: NearDuplicates) -> Shingles:
        """Shingle D texts (large_string without nulls)."""
        given = _Texts.of(texts)
        # A piece is at least a byte long.
        hashes = np.empty(given.num_bytes + 1, dtype=np.uint64)
        ends = np.zeros(len(given.offsets), dtype=np.int64)
        _check_memory(native().shingle_texts(*given.shingled(settings), address(hashes), address(ends)))
        return cls(hashes[: ends[-1]].copy(), ends)

    def distinct(self) -> Shingles:
        """The same, each text's in ascending order and once each: what Jaccard similarity is computed from."""
        hashes, ends = self.hashes.copy(), self.ends.copy()
        _check_memory(native().sort_shingles(address(hashes), address(ends), len(ends) - 1))
        return Shingles(hashes[: ends[-1]].copy(), ends)

    def jaccard(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """float64 [P]: exact similarity of the texts `first` and `second` (int64 [P]) of distinct shingles."""
        first, second = (np.ascontiguousarray(side, dtype=np.int64) for side in (first, second))
        out = np.empty(len(first))
        arrays = (self.hashes, self.ends, first, second)
        native().similarities(*map(address, arrays), len(first), address(out))
        return out


def minhash_bands(texts: pa.Array, settings: NearDuplicates, seed: int) -> np.ndarray:
    """uint64 [D, bands of all groupings]: equal where texts (large_string [D]) share a band of MinHash; 0 where one has
    no shingles.

    Raises:
        MachineError: there is no memory for the shingles of the longest text.
    """
    given = _Texts.of(texts)
    num_bands, rows = bands_of(settings)
    lanes = -(-num_bands * rows // _LANES) * _LANES
    multipliers, increments = _permutations(lanes, seed)
    bands = np.empty((len(given.offsets) - 1, bands_in_all(settings)), dtype=np.uint64)
    permutations = (address(multipliers), address(increments), lanes)
    cut = (num_bands, rows, settings.groupings)
    _check_memory(native().minhash_bands(*given.shingled(settings), *permutations, *cut, address(bands)))
    return bands


def _check_memory(failed: int) -> None:
    if failed:
        raise MachineError("there is no memory for the shingles of the longest text", fix="free some memory")


@dataclass(frozen=True)
class _Texts:
    """Texts as C takes them: uint8, and where each begins and the last ends, int64 [D + 1]."""

    data: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: pa.Array) -> _Texts:
        texts = texts.cast(pa.large_string())
        _, offsets, data = texts.buffers()
        every = np.frombuffer(offsets, dtype=np.int64) if len(texts) else np.zeros(1, dtype=np.int64)
        begin = texts.offset if len(texts) else 0
        return cls(np.frombuffer(data or b"\0", dtype=np.uint8), every[begin : begin + len(texts) + 1])

    @property
    def num_bytes(self) -> int:
        return int(self.offsets[-1] - self.offsets[0])

    def shingled(self, settings: NearDuplicates) -> tuple[int, ...]:
        """The first arguments of the functions that shingle."""
        arrays = (_kinds(), self.data, self.offsets)
        return settings.shingle, int(settings.unit == "grapheme"), *map(address, arrays), len(self.offsets) - 1


def bands_of(settings: NearDuplicates) -> tuple[int, int]:
    """How many bands a grouping has, and how many hashes are in each.

    Without a setting: the widest bands by which documents at the threshold still meet with probability 0.999.

    Raises:
        UserError: there are more groupings than differ.
    """
    if settings.bands is not None:
        count, rows = settings.bands, settings.hashes // settings.bands
    else:
        sizes = range(1, settings.hashes + 1)
        enough = [size for size in sizes if 1 - (1 - settings.threshold**size) ** (settings.hashes // size) >= _RECALL]
        rows = max(enough, default=1)
        count = settings.hashes // rows
    most = 1 if rows == 1 else count
    if settings.groupings > most:
        raise UserError(
            f"{settings.hashes} hashes are cut into {count} bands of {rows} in {most} different ways,"
            f" not {settings.groupings}",
            where="near_duplicates.groupings",
            fix=f"set at most {most}, or other hashes or bands",
        )
    return count, rows


def bands_in_all(settings: NearDuplicates) -> int:
    """Of a document, in all groupings."""
    return settings.groupings * bands_of(settings)[0]


@cache
def _permutations(lanes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Odd multipliers and increments (uint32 [lanes]) of permutations of the 32-bit numbers."""
    numbers = mixed(np.arange(1, 2 * lanes + 1, dtype=np.uint64) + mixed(np.array([seed + 1], dtype=np.uint64)))
    values = (numbers >> np.uint64(32)).astype(np.uint32)
    return values[:lanes] | np.uint32(1), values[lanes:].copy()


@cache
def _kinds() -> np.ndarray:
    """uint32 [0x110000]: each code point's lower case, and above its 21 bits what it is to a shingle."""
    classes = class_table()
    kinds = np.full(len(classes), _OUTSIDE, dtype=np.uint32)
    kinds[(classes == LETTER) | (classes == DIGIT)] = _BASE
    kinds[classes == MARK] = _EXTENDS
    kinds[classes == JOINER] = _JOINER
    kinds[(classes == LETTER) & unspaced_table()] = _ALONE
    kinds[viramas()] = _LINKER
    lower = np.arange(len(classes), dtype=np.uint32)
    for code in np.flatnonzero(classes == LETTER):
        small = chr(code).lower()
        if len(small) == 1:
            lower[code] = ord(small)
    return np.where(kinds == _OUTSIDE, 0, kinds << np.uint32(_CODE_BITS) | lower)
