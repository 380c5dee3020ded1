"""The passages of texts that hold items of benchmarks: found, and cut out."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import regex

from vernacular.corpus.configuration import Decontamination
from vernacular.corpus.decontamination.index import MADE_LAST, Index
from vernacular.corpus.decontamination.units import folding, native, text_buffers
from vernacular.foundation.errors import MachineError
from vernacular.foundation.native import address

_NO_MEMORY = 1
_FIRST_ROOM = 1024
_BREAK = "\n\n"
_LONGEST_WORD = 40


@dataclass(frozen=True)
class Passages:
    """What items T texts hold, and where.

    Attributes:
        texts: int64 [H], ascending: the text that holds …
        items: uint32 [H] … this item, …
        covered: int64 [H] … of which so many units stand in it.
        span_texts: int64 [S], ascending: the text of a passage, …
        spans: int64 [S, 2] … and its first byte and the one after it, from the text's beginning.
    """

    texts: np.ndarray
    items: np.ndarray
    covered: np.ndarray
    span_texts: np.ndarray
    spans: np.ndarray


def index_of(folder: Path) -> Index:
    """The index that lies in a folder, opened once in a process; another one made in its place is opened anew."""
    state = (folder / f"{MADE_LAST}.npy").stat()
    return _opened(folder, state.st_ino, state.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _opened(folder: Path, file: int, changed: int) -> Index:
    return Index.load(folder)


def find_passages(texts: pa.Array, index: Index) -> Passages:
    """Find the items of an index in texts (large_string [T] without nulls)."""
    text, offsets = text_buffers(texts)
    starts_bits, seed_bits = (len(index.starts) - 1).bit_length() - 1, len(index.seeds).bit_length() - 1
    shape = np.array([len(index.lengths), seed_bits, starts_bits], np.int64)
    tables: tuple[np.ndarray, ...] = (
        *(index.lengths, index.seeds, index.starts, index.runs),
        *(index.posting_ends, index.posting_items, index.posting_places, index.needed),
    )
    room = _FIRST_ROOM
    while True:
        held: tuple[np.ndarray, ...] = (np.empty(room, np.int64), np.empty(room, np.uint32), np.empty(room, np.int64))
        spans = tuple(np.empty(room, np.int64) for _ in range(3))
        num = np.zeros(2, np.int64)
        failed = native().find_items(
            *(address(folding()), address(text), address(offsets), len(texts), address(shape)),
            *(*map(address, tables), room, *map(address, held), *map(address, spans), address(num)),
        )
        if failed == _NO_MEMORY:
            raise MachineError("there is no memory for decontamination", fix="free some memory")
        if not failed:
            break
        room *= 4
    documents, items, covered = (column[: num[0]] for column in held)
    span_documents, begins, ends = (column[: num[1]] for column in spans)
    bytes_in_text = np.stack([begins, ends], axis=1) - offsets[span_documents][:, None]
    return Passages(documents, items, covered, span_documents, bytes_in_text)


def without_passages(text: str, spans: np.ndarray, settings: Decontamination) -> str:
    """A text without passages, a margin around them, and pieces between them that are too short to keep.

    Args:
        text: the text.
        spans: int64 [S, 2], first byte of each passage and the one after it.
        settings: margin and shortest piece, in graphemes.
    """
    graphemes = regex.findall(r"\X", text)
    ends = np.cumsum([len(grapheme.encode("utf-8")) for grapheme in graphemes])
    gone = np.zeros(len(graphemes) + 1, dtype=bool)
    for begin, end in spans.tolist():
        first = int(np.searchsorted(ends, begin, side="right")) - settings.margin
        last = int(np.searchsorted(ends, end, side="left")) + 1 + settings.margin
        gone[_word_edge(graphemes, max(first, 0), -1) : _word_edge(graphemes, min(last, len(graphemes)), 1)] = True
    gone[-1] = True
    pieces = []
    begin = 0
    for end in np.flatnonzero(gone).tolist():
        pieces.append("".join(graphemes[begin:end]).strip())
        begin = end + 1
    return _BREAK.join(piece for piece in pieces if _is_long(piece, settings.minimum_characters))


def _word_edge(graphemes: list[str], at: int, step: int) -> int:
    """The nearest place before (or, with `step` 1, from) `at` on where a word ends; `at` where none is near."""
    for place in range(at, at + step * _LONGEST_WORD, step):
        if not 0 < place < len(graphemes) or graphemes[place - (step < 0)].isspace():
            return min(max(place, 0), len(graphemes))
    return at


def _is_long(piece: str, least: int) -> bool:
    return len(piece) >= least and len(regex.findall(r"\X", piece)) >= least
