"""Runs as assessment writes them, of given texts."""

from __future__ import annotations

import pyarrow as pa

from vernacular.corpus.configuration import NearDuplicates
from vernacular.corpus.document import document_id
from vernacular.corpus.shingles import minhash_bands


def run_of(texts: list[str], settings: NearDuplicates, qualities: dict[str, float] | None = None) -> pa.Table:
    """A run as assessment writes it, all of one source and language."""
    array = pa.array(texts, pa.large_string())
    bands = minhash_bands(array, settings, 0)
    width = 8 * bands.shape[1]
    unknown = pa.nulls(len(texts), pa.string())
    columns = dict.fromkeys(("name", "reason", "detail", "label", "group", "script", "masked"), unknown)
    lengths = pa.array([len(text) for text in texts], pa.int64())
    return pa.table(
        {
            **columns,
            "id": [document_id(text) for text in texts],
            "text": array,
            "language": ["und"] * len(texts),
            "quality": pa.array([(qualities or {}).get(text) for text in texts], pa.float32()),
            "order": pa.array([0] * len(texts), pa.int32()),
            "bytes_in": lengths,
            "length": lengths,
            "lines_cut": pa.array([0] * len(texts), pa.int32()),
            "bands": pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(texts), [None, pa.py_buffer(bands)]),
        }
    )
