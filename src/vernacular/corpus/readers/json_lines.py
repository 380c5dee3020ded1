"""JSON Lines, a block of lines at once: what C reads comes as columns, what it leaves as records (json_lines.c)."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.configuration import Source
from vernacular.corpus.readers.record import Record, broken, of_fields
from vernacular.corpus.readers.stream import blocks, not_utf8
from vernacular.foundation.native import NativeLibrary, address

_FIELDS = 3  # text, language, name
_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_long


@cache
def _native() -> ctypes.CDLL:
    library = NativeLibrary(
        name="json-lines",
        title="reader of JSON Lines",
        folder=Path(__file__).parent,
        sources=("json_lines.c",),
        signatures={
            "prepare": (),
            "read_json_lines": (_POINTER, _NUMBER, *[_POINTER] * 5, _NUMBER, *[_POINTER] * 3),
        },
        otherwise=", or give the text as Parquet",
    ).load()
    library.prepare()
    return library


@dataclass(frozen=True)
class Lines:
    """Records of a block of lines.

    Attributes:
        positions: int64 [R], of each among the file's records, from 0; the broken ones count.
        numbers: int64 [R], its line, from 1.
        texts, languages, names: large_string [R]; the text is never null.
        others: position and record of each line that is not among these R: the broken ones, and unusual ones.
        end: how many records, and how many lines, the file has up to the end of the block.
    """

    positions: np.ndarray
    numbers: np.ndarray
    texts: pa.Array
    languages: pa.Array
    names: pa.Array
    others: list[tuple[int, Record]]
    end: tuple[int, int]

    @classmethod
    def of_one(cls, record: Record, position: int) -> Lines:
        """A single record."""
        none, empty = np.zeros(0, dtype=np.int64), pa.array([], pa.large_string())
        return cls(none, none, empty, empty, empty, [(position, record)], (position + 1, record.line or 0))

    def records(self) -> Iterator[Record]:
        """All of them, in order."""
        columns = (self.texts, self.numbers, pc.binary_length(self.texts), self.languages, self.names)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        records = [Record(text, line, size, language=language, name=name) for text, line, size, language, name in rows]
        places = [*self.positions.tolist(), *(position for position, _ in self.others)]
        both = [*records, *(record for _, record in self.others)]
        return (both[at] for at in np.argsort(places).tolist())


def read_json_lines(file: IO[bytes], compression: str | None, source: Source, rows_at_once: int) -> Iterator[Lines]:
    """One JSON object a line, `rows_at_once` or fewer together; lines of white space alone are skipped.

    Raises:
        UserError: a line is longer than a gibibyte.
        MachineError: the reader cannot be compiled.
    """
    position, number, keys = 0, 0, _keys(source)
    for block in blocks(file, compression):
        while block:
            lines, read = _read(block, source, keys, position, number, rows_at_once)
            position, number = lines.end
            block = block[read:]
            yield lines


def _read(
    block: memoryview, source: Source, wanted: tuple[np.ndarray, np.ndarray], position: int, number: int, most: int
) -> tuple[Lines, int]:
    """The first records of a block, which so many records and lines stand before; and how many bytes they take."""
    keys, key_ends = wanted
    columns = [np.empty(len(block), dtype=np.uint8) for _ in range(_FIELDS)]
    ends = np.empty((_FIELDS, most + 1), dtype=np.int64)
    valid = np.empty((_FIELDS, most), dtype=np.uint8)
    places, left = np.empty((2, most), dtype=np.int64), np.empty((4, most), dtype=np.int64)
    counts = np.zeros(5, dtype=np.int64)
    raw = np.frombuffer(block, dtype=np.uint8)
    table = np.array([address(column) for column in columns], dtype=np.uint64)
    _native().read_json_lines(
        *(address(raw), len(block), address(keys), address(key_ends), address(table), address(ends), address(valid)),
        *(most, address(places), address(left), address(counts)),
    )
    rows, num_left, num_records, num_lines, num_bytes = counts.tolist()
    texts, languages, names = (_strings(*column, rows) for column in zip(columns, ends, valid, strict=True))
    others = [
        (position + place, _record(bytes(block[begin:end]), number + line, source))
        for place, line, begin, end in left[:, :num_left].T.tolist()
    ]
    end = position + num_records, number + num_lines
    positions, numbers = places[0, :rows] + position, places[1, :rows] + number
    return Lines(positions, numbers, texts, languages, names, others, end), num_bytes


def _keys(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """The names of the wanted fields as C takes them; none, so that every line is left, where one is wanted twice."""
    wanted = [source.text, source.language_field, source.id_field]
    names = [name.encode() if isinstance(name, str) else b"" for name in wanted]
    given = [name for name in names if name]
    if len(set(given)) < len(given):
        names = [b""] * _FIELDS
    ends = np.cumsum([0, *map(len, names)], dtype=np.int64)
    return np.frombuffer(b"".join(names) or b"\0", dtype=np.uint8), ends


def _strings(bytes_: np.ndarray, ends: np.ndarray, valid: np.ndarray, rows: int) -> pa.Array:
    """The first rows of a column."""
    mask = None if valid[:rows].all() else pa.py_buffer(np.packbits(valid[:rows], bitorder="little"))
    return pa.LargeStringArray.from_buffers(rows, pa.py_buffer(ends), pa.py_buffer(bytes_), mask)


def _record(line: bytes, number: int, source: Source) -> Record:
    """The record of a line, or what is wrong with it."""
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return broken(not_utf8(error), number, len(line))
    except json.JSONDecodeError as error:
        return broken(f"not valid JSON: {error.msg} at column {error.colno}", number, len(line))
    except RecursionError:
        return broken("not valid JSON: nested too deeply", number, len(line))
    return of_fields(value, source.text, source.language_field, source.id_field, number, len(line))
