"""Units: the words of a text, or the letters of scripts that separate none, as decontamination compares them.

Case, punctuation and white space do not count; nor do full-width and other compatibility forms, joiners, apostrophes,
and the script of a digit. So a text is found again however it was typed.
"""

from __future__ import annotations

import ctypes
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from vernacular.corpus.codepoints import DIGIT, JOINER, LETTER, MARK, class_table, unspaced_table
from vernacular.foundation.native import Arguments, NativeLibrary, address

MOST_UNITS = 64
"""The longest run of units (overlaps.c has the same)."""

_CODE_BITS = 21
_OUTSIDE, _BASE, _EXTENDS, _ALONE, _SILENT = range(5)
_APOSTROPHES = "'\u2018\u2019\u02bc\uff07"
# Two more i's, which Turkish tells apart and capitals do not.
_FOLDED = {"ı": "i", "İ": "i"}

_WORD, _POINTER = ctypes.c_long, ctypes.c_void_p
_SIGNATURES: dict[str, Arguments] = {
    "cut_texts": (_POINTER, _POINTER, _POINTER, _WORD, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER),
    "hash_runs": (_POINTER, _POINTER, _POINTER, _WORD, _POINTER),
    "find_items": (_POINTER, _POINTER, _POINTER, _WORD, *[_POINTER] * 9, _WORD, *[_POINTER] * 7),
}


@cache
def native() -> ctypes.CDLL:
    """The compiled functions of overlaps.c.

    Raises:
        MachineError: there is no C compiler, or nowhere to keep what it makes.
    """
    return NativeLibrary(
        name="decontamination",
        title="functions for decontamination",
        folder=Path(__file__).parent,
        sources=("overlaps.c",),
        headers=("../hashing.h",),
        signatures=_SIGNATURES,
        otherwise=", or leave `decontamination` out",
    ).load()


@dataclass(frozen=True)
class Units:
    """The units of T texts.

    Attributes:
        hashes: uint64, those of one text after those of another.
        firsts: uint32, each one's first code point, folded.
        ends: int64 [T + 1]; text t has the units from `ends[t]` to before `ends[t + 1]`.
    """

    hashes: np.ndarray
    firsts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, texts: pa.Array) -> Units:
        """Cut T texts (large_string without nulls) into units."""
        text, offsets = text_buffers(texts)
        room = int(offsets[-1] - offsets[0]) + 1
        hashes, firsts = np.empty(room, np.uint64), np.empty(room, np.uint32)
        begins, stops = np.empty(room, np.int64), np.empty(room, np.int64)
        ends = np.zeros(len(texts) + 1, np.int64)
        arrays: tuple[np.ndarray, ...] = (hashes, firsts, begins, stops, ends)
        native().cut_texts(address(folding()), address(text), address(offsets), len(texts), *map(address, arrays))
        return cls(hashes[: ends[-1]].copy(), firsts[: ends[-1]].copy(), ends)

    def run_hashes(self, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """uint64 [R]: the hash of each run of `lengths` units from `begins` on (int64 [R])."""
        out = np.empty(len(begins), np.uint64)
        native().hash_runs(address(self.hashes), address(begins), address(lengths), len(begins), address(out))
        return out


def text_buffers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of texts (large_string [T], no nulls): uint8, and int64 [T + 1], where in them each one begins."""
    if not len(texts):
        return np.zeros(1, np.uint8), np.zeros(1, np.int64)
    _, offsets_buffer, data = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data or b"\0", dtype=np.uint8), np.ascontiguousarray(offsets)


@cache
def folding() -> np.ndarray:
    """uint32 [0x110000]: what each code point is folded to, and above its 21 bits what it is to a unit."""
    classes = class_table()
    kinds = np.full(len(classes), _OUTSIDE, dtype=np.uint32)
    kinds[(classes == LETTER) | (classes == DIGIT)] = _BASE
    kinds[classes == MARK] = _EXTENDS
    kinds[(classes == LETTER) & unspaced_table()] = _ALONE
    kinds[classes == JOINER] = _SILENT
    kinds[[ord(apostrophe) for apostrophe in _APOSTROPHES]] = _SILENT
    folded = np.arange(len(classes), dtype=np.uint32)
    for code in np.flatnonzero((classes == LETTER) | (classes == DIGIT)):
        folded[code] = ord(_folded(chr(code)))
    return kinds << np.uint32(_CODE_BITS) | folded


def _folded(character: str) -> str:
    """A letter or digit in its plain form, as far as that is one code point."""
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", character)
    for form in (_FOLDED.get(character), plain.casefold(), plain.lower(), plain):
        if form is not None and len(form) == 1:
            return form
    return character
