"""Removes near-duplicates with Vernacular: the steps of `curate`, without those that look at a single document."""

from __future__ import annotations

import functools
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deduplication_protocol import serve

from vernacular.corpus.configuration import Engine, NearDuplicates, Source
from vernacular.corpus.deduplication import find_distinct, near_duplicates
from vernacular.corpus.distinct import numbered
from vernacular.corpus.document import document_id
from vernacular.corpus.reading import read_runs
from vernacular.corpus.runs import Runs, write_run
from vernacular.corpus.shingles import Shingles
from vernacular.corpus.sources import find_files
from vernacular.corpus.writing import ShardWriter
from vernacular.foundation.ledger import Ledger

# datatrove asks for no similarity beyond a shared band; a band of 8 of 14 is met by half of the pairs at 0.72.
SETTINGS = NearDuplicates(shingle=5, hashes=112, bands=14, threshold=0.72)
ENGINE = Engine(workers=1)
KEPT = pa.schema([pa.field("id", pa.string()), pa.field("name", pa.string()), pa.field("text", pa.string())])


def run(documents: Path, folder: Path) -> functools.partial[list[str]]:
    """Remove near-duplicates in one process."""
    ledger = Ledger.open(folder / "work", {})
    files = find_files((Source(name="documents", path=str(documents), id_field="id"),)).files
    for number, batch in read_runs(files, strict=True):
        path = ledger.part("runs") / f"{number:05d}-{batch['row'][0].as_py():020d}.parquet"
        write_run(_assessed(pa.table(batch)), path)
    runs = Runs(sorted(ledger.part("runs").iterdir()))
    parts = runs.parts(ENGINE.memory_bytes // 16)
    distinct = find_distinct(runs, parts, SETTINGS, ledger.part("bands"), ENGINE)
    removed = near_duplicates(runs, parts, distinct, SETTINGS, ledger, ENGINE).removed
    writer = ShardWriter(folder / "documents", KEPT)
    for numbers, rows in numbered(runs, parts, ("name", "text")):
        gone = pc.is_in(pa.array(numbers), pa.array(removed))
        writer.add(rows.filter(pc.invert(gone)))
    writer.close()
    ledger.discard()
    return functools.partial(_ids, folder / "documents")


def _assessed(rows: pa.Table) -> pa.Table:
    """What assessment leaves of documents that nothing is asked of: id, length, bands."""
    texts = rows["text"].combine_chunks()
    bands = Shingles.of(texts, SETTINGS).bands(SETTINGS, seed=0)
    unknown = pa.nulls(len(rows), pa.string())
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(8 * bands.shape[1]), len(bands), [None, pa.py_buffer(bands)]
    )
    columns = {
        **dict.fromkeys(("script", "reason", "detail"), unknown),
        "language": ["und"] * len(rows),
        "id": pa.array([document_id(text) for text in texts.to_pylist()], pa.string()),
        "quality": pa.nulls(len(rows), pa.float32()),
        "order": pa.array([0] * len(rows), pa.int32()),
        "length": pc.utf8_length(texts).cast(pa.int64()),
        "bands": column,
    }
    kept = rows.select(["text", "name", "label", "group", "bytes_in"])
    return pa.table([*kept.columns, *columns.values()], names=[*kept.column_names, *columns])


def _ids(folder: Path) -> list[str]:
    return pq.read_table(folder, columns=["name"])["name"].to_pylist()


if __name__ == "__main__":
    serve(run)
