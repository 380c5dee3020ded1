"""Rows of a table gathered in another order, each string copied once (gathering.c).

`pa.Table.take` joins the chunks of a column before it takes anything from them: all texts are copied once more, however
few of them are taken.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from vernacular.foundation.native import NativeLibrary, address

_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_long


@cache
def _native() -> ctypes.CDLL:
    return NativeLibrary(
        name="gathering",
        title="functions that gather rows",
        folder=Path(__file__).parent,
        sources=("gathering.c",),
        signatures={
            "measure_strings": (_POINTER, _POINTER, _NUMBER, _POINTER, _POINTER),
            "gather_strings": (_POINTER, _POINTER, _NUMBER, *[_POINTER] * 4),
        },
    ).load()


def rows_at(table: pa.Table, places: np.ndarray) -> pa.Table:
    """The rows at some places (integers [R]), in that order; a column has one chunk then."""
    places = places.astype(np.int64)
    columns = [_gathered(column, places) for column in table.columns]
    return pa.table(columns, schema=table.schema)


def joined(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array, which is copied only where there are several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _gathered(column: pa.ChunkedArray, places: np.ndarray) -> pa.Array:
    if column.type != pa.large_string() or column.null_count or column.num_chunks < 2 or not len(places):
        return joined(column).take(pa.array(places))
    starts = np.cumsum([0, *map(len, column.chunks)])
    chunks = np.searchsorted(starts, places, side="right") - 1
    rows = places - starts[chunks]
    offsets, data = _addresses(column)
    ends = np.empty(len(places) + 1, dtype=np.int64)
    _native().measure_strings(address(chunks), address(rows), len(places), address(offsets), address(ends))
    out = np.empty(ends[-1], dtype=np.uint8)
    where = (address(chunks), address(rows), len(places), address(offsets))
    _native().gather_strings(*where, address(data), address(ends), address(out))
    return pa.LargeStringArray.from_buffers(len(places), pa.py_buffer(ends), pa.py_buffer(out))


def _addresses(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Of the offsets and the bytes of each chunk; 0 where there are none."""
    buffers = [(chunk.buffers(), 8 * chunk.offset) for chunk in column.chunks]
    offsets = [found[1].address + begin if found[1] else 0 for found, begin in buffers]
    data = [found[2].address if found[2] else 0 for found, _ in buffers]
    return np.array(offsets, dtype=np.uint64), np.array(data, dtype=np.uint64)
