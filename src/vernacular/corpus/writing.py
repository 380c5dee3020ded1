"""Parquet files of documents, cut at the same places however the documents arrive."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vernacular.foundation.errors import machine_errors
from vernacular.foundation.files import atomic_path

_BYTES_PER_FILE = 128 << 20
# What waits in memory: a row group.
_BYTES_PER_GROUP = 8 << 20
_ROWS_PER_GROUP = 8192
# Columns whose values seldom return: a dictionary of them is built and thrown away.
_OWN = frozenset(("id", "text", "name", "provenance"))


class ShardWriter:
    """Writes rows to `folder/00000.parquet`, `00001.parquet`, …; each holds about 128 MiB of text.

    A context: files that are not whole where it ends with an error are not kept.

    Args:
        folder: where to.
        schema: of the rows; their size is that of the column `text`, without one that of `provenance`.
        compression: of the columns, as Parquet names it.
    """

    def __init__(self, folder: Path, schema: pa.Schema, compression: str = "zstd") -> None:
        self._folder = folder
        self._schema = schema
        self._compression = compression
        self._sized = "text" if "text" in schema.names else "provenance"
        self._num_files = 0
        self._open = ExitStack()
        self._file: pq.ParquetWriter | None = None
        self._file_bytes = 0
        self._waiting: list[pa.Table] = []
        self._waiting_rows = self._waiting_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._write_waiting(even_none=not self._num_files)
            self._close_file()
        else:
            self._open.__exit__(kind, error, traceback)

    def add(self, rows: pa.Table) -> None:
        """Take rows, in order."""
        rows = rows.select(self._schema.names).cast(self._schema)
        sizes = pc.binary_length(rows[self._sized]).to_numpy().astype(np.int64)
        begin = 0
        while begin < len(sizes):
            taken = self._fitting(np.cumsum(sizes[begin : begin + _ROWS_PER_GROUP]))
            if taken:
                size = int(sizes[begin : begin + taken].sum())
                self._waiting.append(rows.slice(begin, taken))
                self._waiting_rows += taken
                self._waiting_bytes += size
                self._file_bytes += size
                begin += taken
            else:
                self._write_waiting()
                if self._file_bytes + sizes[begin] > _BYTES_PER_FILE:
                    self._close_file()

    def _fitting(self, total: np.ndarray) -> int:
        """How many of the next rows, of these sizes together, the row group still takes; a large row has its own."""
        room = _BYTES_PER_FILE - self._file_bytes
        if not self._waiting and (total[0] <= room or not self._file_bytes):
            room = max(min(room, _BYTES_PER_GROUP), int(total[0]))
        else:
            room = min(room, _BYTES_PER_GROUP - self._waiting_bytes)
        return min(int(np.searchsorted(total, room, side="right")), _ROWS_PER_GROUP - self._waiting_rows)

    def _write_waiting(self, *, even_none: bool = False) -> None:
        if not self._waiting and not even_none:
            return
        table = pa.concat_tables(self._waiting or [self._schema.empty_table()]).combine_chunks()
        path = self._folder / f"{self._num_files:05d}.parquet"
        if self._file is None:
            self._open.enter_context(machine_errors("writing documents", path))
            temporary = self._open.enter_context(atomic_path(path))
            repeated = [name for name in self._schema.names if name not in _OWN]
            writer = pq.ParquetWriter(temporary, self._schema, compression=self._compression, use_dictionary=repeated)
            self._file = self._open.enter_context(writer)
        with machine_errors("writing documents", path):
            self._file.write_table(table, row_group_size=max(len(table), 1))
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0

    def _close_file(self) -> None:
        if self._file is not None:
            self._open.close()
            self._file, self._file_bytes = None, 0
            self._num_files += 1
