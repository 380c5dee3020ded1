r"""Words and grapheme clusters of many texts at a time, counted over arrays of code points.

Clusters are the extended ones of Unicode Standard Annex 29 (rules GB3 to GB13 with the property tables of the `regex`
library, whose `\X` finds the same); words are runs of letters, marks, joiners and digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import regex
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Codes = NDArray[np.uint32]

# Classes of Grapheme_Cluster_Break that the rules speak of; all others are 0.
_BREAKS = ("CR", "LF", "Control", "Extend", "ZWJ", "SpacingMark", "Prepend", "L", "V", "T", "LV", "LVT", "RI")
CR, LF, CONTROL, EXTEND, ZWJ, SPACING, PREPEND, L, V, T, LV, LVT, REGIONAL = range(1, 14)
_CLASS = 0x0F
_PROPERTIES = {
    0x10: r"[\p{L}\p{M}\p{N}\u200C\u200D]",
    0x20: r"\p{Extended_Pictographic}",
    0x40: r"\p{InCB=Consonant}",
    0x80: r"\p{InCB=Linker}",
    0x100: r"\p{InCB=Extend}",
}
WORD, PICTURE, CONSONANT, LINKER, JOINING = _PROPERTIES

# Characters with properties stand in the planes 0 to 3 and at the beginning of plane 14.
_ASSIGNED = (*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE1000))


class Units(NamedTuple):
    """Counts of D texts, int64 [D] each."""

    words: NDArray[np.int64]
    graphemes: NDArray[np.int64]


def count_units(texts: Sequence[str]) -> Units:
    """Words and extended grapheme clusters of each text."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    ends = np.cumsum(lengths)
    codes = np.frombuffer("".join(texts).encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
    if not len(codes):
        return Units(np.zeros(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.int64))
    kinds = _table()[codes]
    begins = np.zeros(len(codes), dtype=bool)
    begins[(ends - lengths)[lengths > 0]] = True
    in_word = (kinds & WORD) != 0
    words = in_word & (begins | ~_before(in_word))
    return Units(_sums(words, ends), lengths - _sums(_tied(kinds, begins), ends))


def _sums(marked: Bools, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of each text are marked; few of all are."""
    return np.diff(np.searchsorted(np.flatnonzero(marked), ends), prepend=0)


def _before(values: Bools) -> Bools:
    """What stood one place earlier; False at the first."""
    return np.concatenate([[False], values[:-1]])


def _tied(kinds: NDArray[np.uint16], begins: Bools) -> Bools:
    """What goes on with a cluster. Texts stand one after the other; `begins` is True at the first character of each."""
    here = (kinds & _CLASS).astype(np.uint16)
    last = np.concatenate([[0], here[:-1]])
    tied = (here == EXTEND) | (here == ZWJ) | (here == SPACING) | (last == PREPEND)  # GB9, 9a, 9b
    if (here >= L).any():
        tied |= (last == L) & np.isin(here, (L, V, LV, LVT))  # GB6
        tied |= np.isin(last, (LV, V)) & np.isin(here, (V, T))  # GB7
        tied |= np.isin(last, (LVT, T)) & (here == T)  # GB8
        tied |= _second_of_flag(here == REGIONAL, begins)  # GB12, 13
    tied |= _conjunct(kinds, begins) | _joined_picture(kinds, here, begins)
    apart = (last >= CR) & (last <= CONTROL) | (here >= CR) & (here <= CONTROL)  # GB4, 5
    tied &= ~apart
    tied |= (last == CR) & (here == LF)  # GB3
    return tied & ~begins


def _bases(places: NDArray[np.int64], run: Bools, begins: Bools) -> NDArray[np.int64]:
    """For each of some places, the last earlier one that is not in `run`; -1 where its text has none."""
    before = places - 1
    inside = (before >= 0) & run[before]
    starts = np.flatnonzero(run & ~_before(run))
    bases = before.copy()
    bases[inside] = starts[np.searchsorted(starts, before[inside], side="right") - 1] - 1
    firsts = np.flatnonzero(begins)
    return np.where(bases >= firsts[np.searchsorted(firsts, places, side="right") - 1], bases, -1)


def _conjunct(kinds: NDArray[np.uint16], begins: Bools) -> Bools:
    """GB9c: a consonant after a consonant, with a linker among what extends the first."""
    linkers = (kinds & LINKER) != 0
    tied = np.zeros(len(kinds), dtype=bool)
    linking = np.flatnonzero(linkers)
    if not len(linking):
        return tied
    consonants = (kinds & CONSONANT) != 0
    extending = linkers | ((kinds & JOINING) != 0)
    places = np.flatnonzero(consonants & _before(extending))
    bases = _bases(places, extending, begins)
    linked = np.searchsorted(linking, places) > np.searchsorted(linking, bases, side="right")
    tied[places[linked & (bases >= 0) & consonants[bases]]] = True
    return tied


def _joined_picture(kinds: NDArray[np.uint16], here: NDArray[np.uint16], begins: Bools) -> Bools:
    """GB11: a pictograph after a pictograph, what extends it, and a joiner."""
    after_picture = np.zeros(len(kinds), dtype=bool)
    joiners = np.flatnonzero(here == ZWJ)
    if not len(joiners):
        return after_picture
    pictures = (kinds & PICTURE) != 0
    bases = _bases(joiners, here == EXTEND, begins)
    after_picture[joiners] = (bases >= 0) & pictures[bases]
    return pictures & _before(after_picture)


def _second_of_flag(regional: Bools, begins: Bools) -> Bools:
    """GB12, 13: every second of a run of regional indicators."""
    if not regional.any():
        return regional
    places = np.arange(len(regional))
    starts = regional & (begins | ~_before(regional))
    start = np.maximum.accumulate(np.where(starts, places, -1))
    return regional & ((places - start) % 2 == 1)


@cache
def _table() -> NDArray[np.uint16]:
    """Class and properties of every code point."""
    table = np.zeros(0x110000, dtype=np.uint16)
    characters = "".join(map(chr, _ASSIGNED))
    for number, name in enumerate(_BREAKS, start=1):
        table[_codes(rf"\p{{GCB={name}}}", characters)] |= number
    for flag, pattern in _PROPERTIES.items():
        table[_codes(pattern, characters)] |= flag
    return table


def _codes(pattern: str, characters: str) -> Codes:
    found = "".join(regex.findall(pattern, characters))
    return np.frombuffer(found.encode("utf-32-le"), dtype=np.uint32)
