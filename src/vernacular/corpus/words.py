"""Words, n-grams and lines of a batch of texts as 64-bit hashes, so that comparing them is comparing integers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from vernacular.corpus.codepoints import CodePoints

# Odd multipliers of Knuth's and Steele's; any odd constants with well mixed bits would do.
_BASE = 0x9E3779B97F4A7C15
_MIX = 0xBF58476D1CE4E5B9
_TABLE_BITS = 20


@dataclass(frozen=True)
class Hashes:
    """Hashes of consecutive pieces (words, lines, n-grams) of a batch.

    Attributes:
        values: uint64 [W].
        documents: int64 [W]: the document of each piece, ascending.
        starts: int64 [W]: the code point each piece begins at.
    """

    values: np.ndarray
    documents: np.ndarray
    starts: np.ndarray

    def ngrams(self, size: int) -> Hashes:
        """The hashes of every `size` consecutive pieces within one document."""
        if size == 1:
            return self
        count = len(self.values) - size + 1
        if count <= 0:
            return Hashes(self.values[:0], self.documents[:0], self.starts[:0])
        combined = np.zeros(count, dtype=np.uint64)
        for position in range(size):
            combined = combined * np.uint64(_BASE) + mixed(self.values[position : position + count])
        within = self.documents[:count] == self.documents[size - 1 :]
        return Hashes(combined[within], self.documents[:count][within], self.starts[:count][within])

    def repeated(self) -> np.ndarray:
        """bool [W]: whether an equal piece stood earlier in the same document."""
        keys = self.values ^ mixed(self.documents)
        order = np.argsort(keys, kind="stable")
        again = np.zeros(len(order), dtype=bool)
        again[1:] = keys[order][1:] == keys[order][:-1]
        result = np.empty(len(order), dtype=bool)
        result[order] = again
        return result


@dataclass(frozen=True)
class Words:
    """The words of D texts (lower case expected).

    Attributes:
        points: their code points.
    """

    points: CodePoints

    @cached_property
    def hashes(self) -> Hashes:
        """One hash per word: equal words, wherever they stand, have equal hashes."""
        starts = np.flatnonzero(self.points.word_starts)
        word_of = np.cumsum(self.points.word_starts)[self.points.in_word] - 1
        values = _fold(self.points.values[self.points.in_word], word_of, len(starts))
        return Hashes(values, self.points.documents[starts], starts)

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 [D]: words of each document."""
        return np.bincount(self.hashes.documents, minlength=self.points.num_documents)


def lines(points: CodePoints) -> tuple[Hashes, np.ndarray]:
    """The lines that are not empty, and how many code points each has (int64 [L])."""
    newline = points.values == 0x0A
    begins = ~newline & (points.before(newline) | points.starts)
    starts = np.flatnonzero(begins)
    line_of = np.cumsum(begins)[~newline] - 1
    values = _fold(points.values[~newline], line_of, len(starts))
    return Hashes(values, points.documents[starts], starts), np.bincount(line_of, minlength=len(starts))


class HashSet:
    """A set of hashes to look many others up in: a table of their first bits turns almost all away at once."""

    def __init__(self, values: Iterable[int] = ()) -> None:
        self._values = np.unique(np.fromiter(values, dtype=np.uint64))
        self._table = np.zeros(1 << _TABLE_BITS, dtype=bool)
        self._table[self._values >> np.uint64(64 - _TABLE_BITS)] = True

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values.tolist())

    def contains(self, values: np.ndarray) -> np.ndarray:
        """bool [W]: which of `values` (uint64 [W]) are in the set."""
        found = self._table[values >> np.uint64(64 - _TABLE_BITS)]
        found[found] = np.isin(values[found], self._values)
        return found


def phrase_hashes(phrases: list[str]) -> dict[int, HashSet]:
    """Hashes of phrases by their number of words; to be looked up among the n-grams of that size."""
    by_size: dict[int, list[int]] = {}
    if phrases:
        texts = [unicodedata.normalize("NFC", phrase).lower() for phrase in phrases]
        words = Words(CodePoints.of(pa.array(texts, pa.large_string())))
        for size in sorted(set(words.counts.tolist()) - {0}):
            grams = words.hashes.ngrams(size)
            whole = words.counts[grams.documents] == size
            by_size[size] = grams.values[whole].tolist()
    return {size: HashSet(values) for size, values in by_size.items()}


def mixed(values: np.ndarray) -> np.ndarray:
    """uint64: the values with their bits spread (the finaliser of SplitMix64)."""
    values = values.astype(np.uint64, copy=True)
    values ^= values >> np.uint64(30)
    values *= np.uint64(_MIX)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _fold(values: np.ndarray, piece_of: np.ndarray, num_pieces: int) -> np.ndarray:
    """uint64 [num_pieces]: polynomial hash of each piece's code points; `piece_of` is ascending from 0."""
    if not num_pieces:
        return np.zeros(0, dtype=np.uint64)
    lengths = np.bincount(piece_of, minlength=num_pieces)
    begins = np.cumsum(lengths) - lengths
    position = np.arange(len(values)) - np.repeat(begins, lengths)
    powers = np.ones(int(lengths.max()), dtype=np.uint64)
    powers[1:] = np.uint64(_BASE)
    powers = np.multiply.accumulate(powers)
    terms = mixed(values.astype(np.uint64) + np.uint64(1)) * powers[position]
    return np.add.reduceat(terms, begins)
