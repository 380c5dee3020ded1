"""Sorted runs: rows on disk in files that are each sorted by id, read together by ranges of ids.

Ids are hashes, so each range of them holds an equal share of the rows: what is too much for memory is sorted, joined
and merged range by range, an external sort without a merge of many files at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vernacular.foundation.files import atomic_path

_ROWS_PER_GROUP = 512
_REPEATING = ("source", "language", "script", "reason")
_MOST_PARTS = 1 << 16  # four hexadecimal digits of an id


def write_run(rows: pa.Table, path: Path) -> None:
    """Write rows (with a column `id`) as one run."""
    with atomic_path(path) as temporary:
        pq.write_table(
            rows.sort_by("id"),
            temporary,
            compression={name: "none" if name == "bands" else "lz4" for name in rows.column_names},
            use_dictionary=[name for name in _REPEATING if name in rows.column_names],
            write_statistics=["id"],
            row_group_size=_ROWS_PER_GROUP,
        )


@dataclass(frozen=True)
class Part:
    """A range of ids: from `low` on, and below `high` unless that is None."""

    low: str
    high: str | None


_ALL = Part("0000", None)


@dataclass(frozen=True)
class _Run:
    path: Path
    metadata: pq.FileMetaData

    @cached_property
    def ranges(self) -> list[tuple[str, str]]:
        """First and last id of each row group."""
        column = self.metadata.schema.to_arrow_schema().get_field_index("id")
        groups = (self.metadata.row_group(group) for group in range(self.metadata.num_row_groups))
        statistics = (group.column(column).statistics for group in groups)
        return [(each.min, each.max) for each in statistics]

    def read(self, part: Part, columns: list[str]) -> pa.Table:
        groups = [
            group
            for group, (first, last) in enumerate(self.ranges)
            if last >= part.low and (part.high is None or first < part.high)
        ]
        with pq.ParquetFile(self.path, metadata=self.metadata) as file:
            return file.read_row_groups(groups, columns=columns, use_threads=False)


class Runs:
    """All runs of a folder.

    Args:
        paths: the runs' files, of one schema; one of them at least has rows if they are to be read.
    """

    def __init__(self, paths: list[Path]) -> None:
        runs = (_Run(path, pq.read_metadata(path)) for path in paths)
        self._runs = [run for run in runs if run.metadata.num_rows]

    @property
    def num_rows(self) -> int:
        """In all runs."""
        return sum(run.metadata.num_rows for run in self._runs)

    @property
    def columns(self) -> list[str]:
        """Of the rows."""
        return list(self._runs[0].metadata.schema.to_arrow_schema().names)

    @property
    def num_bytes(self) -> int:
        """Of all rows, before compression."""
        groups = (run.metadata.row_group(group) for run in self._runs for group in range(run.metadata.num_row_groups))
        return sum(group.total_byte_size for group in groups)

    def parts(self, bytes_at_once: int) -> list[Part]:
        """Ranges of ids that together are all, each with about so many bytes of rows at most."""
        count = min(self.num_bytes // bytes_at_once + 1, _MOST_PARTS)
        bounds = [f"{_MOST_PARTS * part // count:04x}" for part in range(count)]
        return [Part(low, high) for low, high in zip(bounds, [*bounds[1:], None], strict=True)]

    def read(self, part: Part, columns: list[str]) -> pa.Table:
        """The rows of a part, in no particular order; `columns` must have `id`."""
        table = pa.concat_tables([run.read(part, columns) for run in self._runs])
        if part == _ALL:
            return table
        inside = pc.greater_equal(table["id"], part.low)
        if part.high is not None:
            inside = pc.and_(inside, pc.less(table["id"], part.high))
        return table.filter(inside)
