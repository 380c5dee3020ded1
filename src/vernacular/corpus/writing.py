"""Parquet files of documents, cut at the same places however the documents arrive."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vernacular.foundation.errors import machine_errors
from vernacular.foundation.files import atomic_path

_BYTES_PER_FILE = 128 << 20
_ROWS_PER_GROUP = 8192


class ShardWriter:
    """Writes rows to `folder/00000.parquet`, `00001.parquet`, …; each holds about 128 MiB of text.

    Args:
        folder: where to.
        schema: of the rows; their size is that of the column `text`, without one that of `provenance`.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder = folder
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self._num_files = 0
        self._sized = "text" if "text" in schema.names else "provenance"

    def add(self, rows: pa.Table) -> None:
        """Take rows, in order."""
        rows = rows.select(self._schema.names).cast(self._schema)
        while rows.num_rows:
            total = pc.cumulative_sum(pc.binary_length(rows[self._sized]).cast(pa.int64()))
            fits = int(pc.sum(pc.less_equal(total, _BYTES_PER_FILE - self._bytes)).as_py())
            taken = min(max(fits, 0 if self._waiting else 1), rows.num_rows)
            if taken:
                self._waiting.append(rows.slice(0, taken))
                self._bytes += total[taken - 1].as_py()
            if taken < rows.num_rows:
                self.flush()
            rows = rows.slice(taken)

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        path = self._folder / f"{self._num_files:05d}.parquet"
        with atomic_path(path) as temporary, machine_errors("writing documents", path):
            pq.write_table(table, temporary, compression="zstd", row_group_size=_ROWS_PER_GROUP)
        self._waiting, self._bytes = [], 0
        self._num_files += 1

    def close(self) -> None:
        """Write the rest; without any rows, an empty file, so that the folder always has its schema."""
        if not self._num_files and not self._waiting:
            self._waiting.append(self._schema.empty_table())
        self.flush()
