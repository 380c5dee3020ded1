"""Duplicates: equal texts by id, similar texts by MinHash candidates whose Jaccard similarity is then computed.

Which document of a group of duplicates stays does not depend on order or partitioning: of equal texts the one that
stands first in the recipe's sources, of similar ones the longest, and among equally long ones that of the lowest id.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vernacular.corpus.configuration import NearDuplicates
from vernacular.corpus.engine import daft
from vernacular.corpus.shingles import jaccard, shingle_matrix
from vernacular.corpus.words import mixed
from vernacular.foundation.progress import progress

# Probability that two documents exactly at the threshold become candidates, at least.
_RECALL = 0.999
# An estimate from H hashes has a standard deviation of at most 1/(2√H); candidates further below the threshold
# than this many deviations are not looked at.
_DEVIATIONS = 4
_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Duplicate:
    """A document to remove: the working table's row, the reason, and what it duplicates."""

    row: int
    reason: str
    detail: str


def exact_duplicates(rows: np.ndarray, ids: np.ndarray, provenance: pa.Array) -> tuple[np.ndarray, list[Duplicate]]:
    """Keep the first of the documents with one id.

    Args:
        rows: int64 [D], positions in the recipe's sources.
        ids: their ids (bytes [D]).
        provenance: where each came from.

    Returns:
        Indices into the arguments of the documents that stay (ascending by id), and the others as duplicates.
    """
    order = np.lexsort((rows, ids))
    first = np.ones(len(order), dtype=bool)
    first[1:] = ids[order][1:] != ids[order][:-1]
    kept = order[first]
    originals = kept[np.cumsum(first) - 1]
    removed = [
        Duplicate(int(rows[index]), "exact_duplicate", f"the same text as {provenance[int(original)]}")
        for index, original in zip(order[~first], originals[~first], strict=True)
    ]
    return kept, removed


def near_duplicates(table: Path, rows: np.ndarray, settings: NearDuplicates) -> list[Duplicate]:
    """Find the documents that are nearly the same as one that stays.

    Args:
        table: the working table, with signatures.
        rows: int64 [D]: the documents to compare, all of different texts.
        settings: threshold, shingle size, number of hashes.
    """
    with progress(doing="comparing documents", total=3, unit="steps") as bar:
        buckets = _buckets(table, rows, settings)
        bar.update(1)
        members = np.unique(np.concatenate(buckets)) if buckets else np.zeros(0, dtype=np.int64)
        if not len(members):
            return []
        documents = (
            daft.read_parquet(str(table))
            .join(daft.from_pydict({"row": pa.array(members)}), on="row")
            .select("row", "id", "length", "provenance", "text", "signature")
            .sort("row")
            .to_arrow()
        )
        signatures = _signature_array(documents["signature"], settings.hashes)
        first, second = _likely_pairs(buckets, documents["row"].to_numpy(), signatures, settings)
        bar.update(1)
        shingles = shingle_matrix(documents["text"].combine_chunks(), settings.shingle)
        similar = jaccard(shingles, first, second) >= settings.threshold
        count = len(documents)
        edges = coo_matrix((np.ones(similar.sum(), dtype=np.int8), (first[similar], second[similar])), (count, count))
        _, groups = connected_components(edges, directed=False)
        bar.update(1)
    ids = np.array(documents["id"].to_pylist(), dtype="S32")
    order = np.lexsort((ids, -documents["length"].to_numpy(), groups))
    leads = np.ones(count, dtype=bool)
    leads[1:] = groups[order][1:] != groups[order][:-1]
    kept = order[leads][np.cumsum(leads) - 1][~leads]
    removed = order[~leads]
    similarity = jaccard(shingles, removed, kept)
    return [
        Duplicate(
            int(documents["row"][int(index)].as_py()),
            "near_duplicate",
            f"similarity {similarity[position]:.3f} to {documents['provenance'][int(lead)]}",
        )
        for position, (index, lead) in enumerate(zip(removed, kept, strict=True))
    ]


def rows_per_band(num_hashes: int, threshold: float) -> int:
    """The most hashes in a band with which documents at the threshold still share one with probability 0.999."""
    sizes = range(1, num_hashes + 1)
    enough = [size for size in sizes if 1 - (1 - threshold**size) ** (num_hashes // size) >= _RECALL]
    return max(enough, default=1)


def _buckets(table: Path, rows: np.ndarray, settings: NearDuplicates) -> list[np.ndarray]:
    """Groups (int64, two or more rows each) of documents that have a band of their signatures in common."""
    size = rows_per_band(settings.hashes, settings.threshold)
    dtype = daft.DataType.list(daft.DataType.uint64())

    @daft.func.batch(return_dtype=dtype, use_process=False)
    def bands(signature: daft.Series) -> pa.Array:
        return _bands(_signature_array(signature.to_arrow(), settings.hashes), size)

    frame = daft.read_parquet(str(table)).select("row", "signature")
    frame = frame.join(daft.from_pydict({"row": pa.array(rows)}), on="row")
    frame = frame.select("row", bands(frame["signature"]).alias("band")).explode("band")
    grouped = frame.groupby("band").agg(daft.col("row").list_agg(), daft.col("row").count().alias("count"))
    shared = grouped.where("count > 1").select("row").to_arrow()["row"]
    return [np.sort(np.asarray(group.values)) for chunk in shared.chunks for group in chunk]


def _bands(signatures: np.ndarray, size: int) -> pa.Array:
    """list<uint64> [D]: one hash per band; bands at different places never share one."""
    count = signatures.shape[1] // size
    hashes = np.tile(np.arange(1, count + 1, dtype=np.uint64), (len(signatures), 1))
    for position in range(size):
        column = signatures[:, position : count * size : size].astype(np.uint64)
        hashes = mixed(hashes * np.uint64(0x9E3779B97F4A7C15) + column)
    offsets = np.arange(0, hashes.size + 1, count, dtype=np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(hashes.ravel()))


def _signature_array(column: pa.ChunkedArray | pa.Array, num_hashes: int) -> np.ndarray:
    """uint32 [D, num_hashes]."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.flatten().to_numpy(zero_copy_only=False).astype(np.uint32).reshape(-1, num_hashes)


def _likely_pairs(
    buckets: list[np.ndarray], rows: np.ndarray, signatures: np.ndarray, settings: NearDuplicates
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (two int64 arrays of positions in `rows`) whose signatures agree nearly as often as the threshold asks.

    Documents of one signature are paired with the first of them only, which alone meets the others: a thousand
    copies of a notice cost a thousand comparisons, not half a million.
    """
    _, lead, same = np.unique(signatures, axis=0, return_index=True, return_inverse=True)
    leads = lead[same.ravel()]
    followers = np.flatnonzero(leads != np.arange(len(rows)))
    least = (settings.threshold - _DEVIATIONS * 0.5 / np.sqrt(settings.hashes)) * settings.hashes
    found = [leads[followers] * len(rows) + followers]
    waiting: list[np.ndarray] = []
    for bucket in buckets:
        members = np.unique(leads[np.searchsorted(rows, bucket)])
        for index in range(len(members) - 1):
            waiting.append(members[index] * len(rows) + members[index + 1 :])
        if sum(map(len, waiting)) > _PAIRS_AT_ONCE:
            found.append(_agreeing(waiting, signatures, least))
            waiting = []
    found.append(_agreeing(waiting, signatures, least))
    pairs = np.unique(np.concatenate(found))
    return pairs // len(rows), pairs % len(rows)


def _agreeing(waiting: list[np.ndarray], signatures: np.ndarray, least: float) -> np.ndarray:
    """Those of the pairs (first × D + second) that agree in at least `least` hashes."""
    if not waiting:
        return np.zeros(0, dtype=np.int64)
    pairs = np.unique(np.concatenate(waiting))
    kept = [
        part[(signatures[part // len(signatures)] == signatures[part % len(signatures)]).sum(axis=1) >= least]
        for part in np.array_split(pairs, max(1, len(pairs) >> 16))
    ]
    return np.concatenate(kept)
