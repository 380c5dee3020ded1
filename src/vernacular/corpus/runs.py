"""Sorted runs: rows on disk in files that are each sorted by id, read together by ranges of ids.

A run is an Arrow file of small batches, not compressed: what is read of it are the columns and batches that are asked
for, at the speed of copying. Ids are hashes, so each range of them holds an equal share of the rows: what is too much
for memory is sorted, joined and merged range by range, an external sort without a merge of many files at once.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.document import ID_LENGTH
from vernacular.corpus.gathering import rows_at
from vernacular.foundation.files import atomic_path

# Few enough that a narrow range of ids reads little beside it.
_ROWS_PER_BATCH = 128
_MOST_PARTS = 1 << 16  # four hexadecimal digits of an id
# In the metadata of a run's schema: the first id of each batch, and the number of rows.
_FIRSTS, _ROWS = b"first ids", b"rows"


def write_run(rows: pa.Table, path: Path) -> None:
    """Write rows (with a column `id`) as one run."""
    rows = rows_at(rows, pc.sort_indices(rows, [("id", "ascending")]).to_numpy())
    firsts = "".join(rows["id"].take(pa.array(range(0, len(rows), _ROWS_PER_BATCH), pa.int64())).to_pylist())
    schema = rows.schema.with_metadata({_FIRSTS: firsts, _ROWS: str(len(rows))})
    options = pa.ipc.IpcWriteOptions(use_threads=False)
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_file(file, schema, options=options) as writer,
    ):
        writer.write_table(rows, max_chunksize=_ROWS_PER_BATCH)


@dataclass(frozen=True)
class Part:
    """A range of ids: from `low` on, and below `high` unless that is None."""

    low: str
    high: str | None


@dataclass(frozen=True)
class _Run:
    """A run's file, and what is known of it without reading it: `firsts`, S32, are the first ids of its batches."""

    path: Path
    num_rows: int
    num_bytes: int
    columns: tuple[str, ...]
    firsts: np.ndarray

    @classmethod
    def of(cls, path: Path) -> _Run:
        with pa.OSFile(str(path), "rb") as file:
            schema = pa.ipc.open_file(file).schema
        firsts = np.frombuffer(schema.metadata[_FIRSTS], dtype=f"S{ID_LENGTH}")
        return cls(path, int(schema.metadata[_ROWS]), path.stat().st_size, tuple(schema.names), firsts)

    def read(self, part: Part, columns: Sequence[str]) -> pa.Table:
        begin = max(int(np.searchsorted(self.firsts, part.low.encode())) - 1, 0)
        end = len(self.firsts) if part.high is None else int(np.searchsorted(self.firsts, part.high.encode()))
        with open(self.path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # A part takes a little of every run: what stands around it is not to be read ahead.
        content.madvise(mmap.MADV_RANDOM)
        # All columns: a choice of them would be copied.
        reader = pa.ipc.open_file(pa.py_buffer(content))
        batches = [reader.get_batch(place) for place in range(begin, end)]
        table = pa.Table.from_batches(batches, reader.schema).replace_schema_metadata()
        rows = _within(table, part).select(columns)
        if "text" in columns and len(rows):
            _fetch(content, rows["text"])
        return rows


def _within(rows: pa.Table, part: Part) -> pa.Table:
    """The rows of a part, among those of the batches that have some of it."""
    ids = rows["id"]
    if not len(ids):
        return rows
    begin = pc.sum(pc.less(ids.chunk(0), part.low)).as_py()
    behind = 0 if part.high is None else pc.sum(pc.greater_equal(ids.chunk(ids.num_chunks - 1), part.high)).as_py()
    return rows.slice(begin, len(ids) - begin - behind)


def _fetch(content: mmap.mmap, texts: pa.ChunkedArray) -> None:
    """Have the system read texts that are mapped, all at once instead of page by page."""
    base = pa.py_buffer(content).address
    extents = [extent for chunk in (texts.chunk(0), texts.chunk(texts.num_chunks - 1)) for extent in _extent(chunk)]
    if extents:
        begin = (extents[0] - base) // mmap.PAGESIZE * mmap.PAGESIZE
        content.madvise(mmap.MADV_WILLNEED, begin, extents[-1] - base - begin)


def _extent(texts: pa.Array) -> list[int]:
    """The addresses where texts (large_string) begin and end; none where all are empty."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return [data.address + int(bounds[0]), data.address + int(bounds[-1])] if bounds[-1] > bounds[0] else []


class Runs:
    """All runs of a folder.

    Args:
        paths: the runs' files, of one schema; one of them at least has rows if they are to be read.
    """

    def __init__(self, paths: list[Path]) -> None:
        runs = (_Run.of(path) for path in paths)
        self._runs = [run for run in runs if run.num_rows]

    @property
    def num_rows(self) -> int:
        """In all runs."""
        return sum(run.num_rows for run in self._runs)

    @property
    def columns(self) -> list[str]:
        """Of the rows."""
        return list(self._runs[0].columns)

    @property
    def num_bytes(self) -> int:
        """Of all rows."""
        return sum(run.num_bytes for run in self._runs)

    def parts(self, bytes_at_once: int) -> list[Part]:
        """Ranges of ids that together are all, each with about so many bytes of rows at most."""
        count = min(self.num_bytes // bytes_at_once + 1, _MOST_PARTS)
        bounds = [f"{_MOST_PARTS * part // count:04x}" for part in range(count)]
        return [Part(low, high) for low, high in zip(bounds, [*bounds[1:], None], strict=True)]

    def read(self, part: Part, columns: Sequence[str]) -> pa.Table:
        """Columns of the rows of a part, in no particular order, but always the same."""
        return pa.concat_tables([run.read(part, columns) for run in self._runs])
