"""Removes near-duplicates with Vernacular: the steps of `curate`, without those that look at a single document."""

from __future__ import annotations

import functools
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deduplication_protocol import serve

from vernacular.corpus.configuration import Engine, NearDuplicates, Source
from vernacular.corpus.deduplication import find_distinct, near_duplicates
from vernacular.corpus.distinct import chosen
from vernacular.corpus.document import document_ids
from vernacular.corpus.gathering import joined
from vernacular.corpus.memory import keep_memory
from vernacular.corpus.reading import read_runs
from vernacular.corpus.runs import Runs, write_run
from vernacular.corpus.shingles import minhash_bands
from vernacular.corpus.sources import find_files
from vernacular.corpus.writing import ShardWriter
from vernacular.foundation.ledger import Ledger

# datatrove asks for no similarity beyond a shared band; a band of 8 of 14 is met by half of the pairs at 0.72.
SETTINGS = NearDuplicates(shingle=5, hashes=112, bands=14, groupings=2, threshold=0.72)
ENGINE = Engine(workers=1)
KEPT = pa.schema([pa.field("id", pa.string()), pa.field("name", pa.string()), pa.field("text", pa.string())])


def run(documents: Path, folder: Path, seed: int) -> functools.partial[list[str]]:
    """Remove near-duplicates in one process."""
    ledger = Ledger.open(folder / "work", {})
    files = find_files((Source(name="documents", path=str(documents), id_field="id"),)).files
    for number, batches in groupby(read_runs(files, strict=True), key=lambda pair: pair[0]):
        rows = pa.concat_tables([_assessed(pa.table(batch), seed) for _, batch in batches])
        write_run(rows, ledger.part("runs") / f"{number:05d}.arrow")
    runs = Runs(sorted(ledger.part("runs").iterdir()))
    parts = runs.parts(ENGINE.memory_bytes // 128)
    distinct = find_distinct(runs, parts, SETTINGS, ledger.part("bands"), ENGINE)
    stay = np.ones(len(distinct), dtype=bool)
    stay[near_duplicates(runs, parts, distinct, SETTINGS, ledger, ENGINE).removed] = False
    with ShardWriter(folder / "documents", KEPT, compression="none") as writer:
        for _, rows in chosen(runs, parts, distinct, stay, tuple(KEPT.names)):
            writer.add(rows)
    ledger.discard()
    return functools.partial(_ids, folder / "documents")


def _assessed(rows: pa.Table, seed: int) -> pa.Table:
    """What assessment leaves of documents that nothing is asked of: id, length, bands."""
    texts = joined(rows["text"])
    bands = minhash_bands(texts, SETTINGS, seed)
    unknown = pa.nulls(len(rows), pa.string())
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(8 * bands.shape[1]), len(bands), [None, pa.py_buffer(bands)]
    )
    columns = {
        **dict.fromkeys(("script", "reason", "detail", "masked"), unknown),
        "language": pa.repeat("und", len(rows)),
        "id": document_ids(texts),
        "quality": pa.nulls(len(rows), pa.float32()),
        **dict.fromkeys(("order", "lines_cut"), pa.repeat(pa.scalar(0, pa.int32()), len(rows))),
        "length": pc.utf8_length(texts).cast(pa.int64()),
        "bands": column,
    }
    kept = rows.select(["text", "name", "label", "group", "bytes_in"])
    return pa.table([*kept.columns, *columns.values()], names=[*kept.column_names, *columns])


def _ids(folder: Path) -> list[str]:
    return pq.read_table(folder, columns=["name"])["name"].to_pylist()


if __name__ == "__main__":
    keep_memory()
    serve(run)
