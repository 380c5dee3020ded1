"""Documents of a curated artifact, read in batches: memory does not grow with the corpus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from vernacular.foundation.errors import UserError

_ROWS_PER_BATCH = 1024


def document_files(curated: Path, split: str) -> list[Path]:
    """The Parquet files of a split, in order. A split that is not there, or holds none, is refused."""
    folder = Path(curated) / "documents" / split
    found = sorted(folder.glob("*.parquet"))
    if not found:
        raise UserError(
            f"no documents: there are no Parquet files of the split '{split}'",
            where=folder,
            fix="name a folder that a stage `curate` wrote",
        )
    return found


def count_documents(paths: Sequence[Path]) -> int:
    """Documents in Parquet files, from their footers."""
    return sum(_open(path).metadata.num_rows for path in paths)


def read_documents(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of at most 1024 documents with the named columns, file after file."""
    for path in paths:
        file = _open(path)
        missing = sorted(set(columns) - set(file.schema_arrow.names))
        if missing:
            raise UserError(f"the column '{missing[0]}' is missing", where=path, fix="make it with `vernacular curate`")
        try:
            yield from file.iter_batches(batch_size=_ROWS_PER_BATCH, columns=list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"the file is damaged: {error}", where=path, fix="curate again") from error


def _open(path: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"not a Parquet file: {error}", where=path, fix="curate again") from error
