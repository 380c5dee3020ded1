"""The counts of a batch of texts, and of its lines, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.codepoints import script_codes, script_table
from vernacular.corpus.counting.code import FIELDS, GENERAL_FIELDS, SETS, call, language_numbers, tables
from vernacular.foundation.errors import unknown_name


@dataclass(frozen=True)
class Counts:
    """What counting/fields.h or general_fields.h lists, of D texts.

    Attributes:
        values: int64 [D, len(fields)].
        fields: the names of the columns.
    """

    values: np.ndarray
    fields: tuple[str, ...] = FIELDS

    def __getitem__(self, name: str) -> np.ndarray:
        """int64 [D]: one of `fields`."""
        if name not in self.fields:
            raise unknown_name("count", name, self.fields, where="counting/fields.h")
        return self.values[:, self.fields.index(name)]

    def share(self, part: str, whole: str) -> np.ndarray:
        """float64 [D]: one count over another; 0 where the other is 0."""
        return self[part] / np.maximum(self[whole], 1)


def count(texts: pa.Array, languages: list[str]) -> Counts:
    """Count everything in a batch.

    Args:
        texts: large_string [D] without nulls, normalised.
        languages: of each text; stop words and profanities are those of the language, if there is a list.
    """
    values = np.empty((len(texts), len(FIELDS)), dtype=np.int64)
    call("scan", texts, _numbers(languages), tables(), values.ctypes.data)
    return Counts(values)


def count_general(texts: pa.Array, languages: list[str]) -> Counts:
    """Count what the family `general` measures. Arguments as those of `count`."""
    values = np.empty((len(texts), len(GENERAL_FIELDS)), dtype=np.int64)
    call("measure_general", texts, _numbers(languages), tables(), values.ctypes.data)
    return Counts(values, GENERAL_FIELDS)


def count_scripts(texts: pa.Array) -> np.ndarray:
    """int64 [D, len(script_codes())]: letters of each script in D texts (large_string without nulls)."""
    counts = np.empty((len(texts), len(script_codes())), dtype=np.int64)
    nobody = np.zeros(len(texts), dtype=np.int64)
    call("count_scripts", texts, nobody, tables(), script_table().ctypes.data, counts.shape[1], counts.ctypes.data)
    return counts


@dataclass(frozen=True)
class Lines:
    """The lines of D texts that are not blank, L in all, in their order.

    Attributes:
        documents: int64 [L].
        starts: int64 [L], first byte of the line in its text.
        ends: int64 [L], the byte after its last one (its line end not included).
        words: int64 [L].
        characters: int64 [L], white space at its ends not counted.
        sets: int64 [L], bits of `SETS` of the phrases in it.
        hashes: uint64 [L], equal for lines that are equal up to white space at their ends.
        menus: bool [L], short items between separators.
        terminal: bool [L], whether it ends a sentence (quotation marks and brackets may follow).
        prose: bool [L], whether C4's rules keep it.
    """

    documents: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    words: np.ndarray
    characters: np.ndarray
    sets: np.ndarray
    hashes: np.ndarray
    menus: np.ndarray
    terminal: np.ndarray
    prose: np.ndarray

    def have(self, name: str) -> np.ndarray:
        """bool [L]: whether a phrase of the set `name` stands in the line."""
        return (self.sets & SETS[name]) != 0


def lines_of(texts: pa.Array, languages: list[str]) -> Lines:
    """Find the lines of a batch and what stands in them. Arguments as those of `count`."""
    ends = int(pc.sum(pc.count_substring(texts, "\n")).as_py() or 0)
    capacity = ends + len(texts)
    rows = np.empty((capacity, 10), dtype=np.int64)
    found = np.zeros(1, dtype=np.int64)
    call("scan_lines", texts, _numbers(languages), tables(), capacity, rows.ctypes.data, found.ctypes.data)
    columns = rows[: int(found[0])].T
    documents, starts, ends, words, characters, sets, hashes, *flags = columns
    menus, terminal, prose = (flag.astype(bool) for flag in flags)
    hashes = hashes.copy().view(np.uint64)
    return Lines(documents, starts, ends, words, characters, sets, hashes, menus, terminal, prose)


def _numbers(languages: list[str]) -> np.ndarray:
    known = language_numbers()
    return np.array([known.get(language, 0) for language in languages], dtype=np.int64)
