"""Near-duplicates: MinHash finds candidates, exact Jaccard similarity decides, and of each cluster the best stays.

    bands of every document   → spilled to disk by ranges of their hashes, each range sorted on its own
    → buckets of equal bands  → clusters of candidates, which share no document
    → windows of clusters     → the clusters' shingles, as many at once as memory allows
    → verified clusters       → documents to remove

Clusters are connected components, and of each the document with the best quality stays, then the longest, then the one
of the lowest id: nothing that depends on order, partitions or the number of workers. In memory lie some 50 bytes a
document, and one range or window per worker.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.configuration import Engine, NearDuplicates
from vernacular.corpus.distinct import Distinct, Numbering, chosen, settled
from vernacular.corpus.engine import num_workers, spread
from vernacular.corpus.gathering import joined
from vernacular.corpus.runs import Part, Runs
from vernacular.corpus.shingles import Shingles, bands_in_all, native
from vernacular.corpus.spill import Spill, sorted_entries
from vernacular.foundation.files import atomic_path
from vernacular.foundation.ledger import Ledger
from vernacular.foundation.native import address
from vernacular.foundation.progress import progress

_BYTES_TO_SHINGLE = 4 << 20


@dataclass(frozen=True)
class Removals:
    """Near-duplicates to remove.

    Attributes:
        removed: int64 [R], numbers of documents, ascending.
        kept: int64 [R], the document that stays in each one's place.
        similarity: float64 [R], Jaccard similarity of the two; below the threshold where others lie between them.
    """

    removed: np.ndarray
    kept: np.ndarray
    similarity: np.ndarray

    @classmethod
    def together(cls, several: Sequence[Removals]) -> Removals:
        """All of them as one."""
        none = [np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)]
        columns = [
            np.concatenate([empty, *(getattr(each, field.name) for each in several)])
            for empty, field in zip(none, fields(cls), strict=True)
        ]
        order = np.argsort(columns[0])
        return cls(*(column[order] for column in columns))


def find_distinct(runs: Runs, parts: list[Part], settings: NearDuplicates, folder: Path, engine: Engine) -> Distinct:
    """Number the distinct documents, and spill their bands below `folder` on the way."""
    numbering = Numbering()
    spill = Spill.planned(folder, runs.num_rows * bands_in_all(settings), engine)
    columns = ("length", "bands") if settings.enabled else ("length",)
    for part in progress(parts, doing="finding equal documents", unit="parts"):
        places, rows = settled(runs, part, columns)
        numbers = numbering.add(rows, places)
        if settings.enabled:
            bands = _bands(rows["bands"])
            hashes = bands.ravel()
            there = hashes != 0
            spill.add(hashes[there], np.repeat(numbers, bands.shape[1])[there])
    return numbering.distinct()


def near_duplicates(
    runs: Runs, parts: list[Part], distinct: Distinct, settings: NearDuplicates, ledger: Ledger, engine: Engine
) -> Removals:
    """Find the documents that are nearly the same as one that stays; `find_distinct` has spilled their bands."""
    spilled, folder = ledger.part("bands"), ledger.part("windows")
    facts = ledger.finished("windows")
    if facts is None:
        _sort_into_buckets(spilled)
        windows = _candidate_windows(spilled, distinct, engine)
        _write_buckets(spilled, folder, windows)
        _write_shingles(runs, parts, distinct, windows, settings, folder)
        facts = ledger.finish("windows", sorted(folder.iterdir()), {"windows": int(windows.max(initial=-1)) + 1})
    work = functools.partial(verify_window, ledger=ledger, settings=settings)
    tasks = range(facts["windows"])
    results = progress(spread(work, tasks, engine), doing="comparing documents", total=len(tasks), unit="windows")
    return Removals.together([_read_removals(path) for path in results])


# ----------------------------------------------------------------------------------------------------------- buckets


def _sort_into_buckets(spilled: Path) -> None:
    """Sort each file of entries, and write down the buckets: documents that share a band, one bucket after another."""
    for place, (hashes, numbers) in enumerate(sorted_entries(spilled, "sorting bands")):
        same = np.zeros(len(hashes) + 1, dtype=bool)
        same[1:-1] = hashes[1:] == hashes[:-1]
        shared = same[:-1] | same[1:]
        begins = np.flatnonzero(~same[:-1][shared])
        np.append(begins, shared.sum()).tofile(spilled / f"{place:04d}.ends")
        numbers[shared].tofile(spilled / f"{place:04d}.members")


def _buckets(spilled: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each sorted file the buckets: where each begins and the last ends, int64 [buckets + 1], and members int64."""
    for path in sorted(spilled.glob("*.ends")):
        yield np.fromfile(path, dtype=np.int64), np.fromfile(path.with_suffix(".members"), dtype=np.int64)


def _candidate_windows(spilled: Path, distinct: Distinct, engine: Engine) -> np.ndarray:
    """int32 [D]: the window in which each document is compared, -1 for those without a candidate."""
    parents = np.arange(len(distinct))
    for ends, members in _buckets(spilled):
        native().join_buckets(address(parents), address(ends), len(ends) - 1, address(members))
    native().find_roots(address(parents), len(parents))
    windows = np.full(len(distinct), -1, dtype=np.int32)
    alone = np.bincount(parents, minlength=len(parents))[parents] == 1
    candidates = np.flatnonzero(~alone)
    if len(candidates):
        # A shingle takes 8 bytes and is at least a code point long.
        _, clusters = np.unique(parents[candidates], return_inverse=True)
        sizes = np.bincount(clusters, weights=8 * distinct.lengths[candidates])
        fits = max(engine.memory_bytes // (32 * num_workers(engine)), 1)
        windows[candidates] = ((np.cumsum(sizes) - sizes) // fits)[clusters]
        windows[candidates] = np.unique(windows[candidates], return_inverse=True)[1]
    return windows


def _write_buckets(spilled: Path, folder: Path, windows: np.ndarray) -> None:
    """Hand each window its buckets, as (size, members …) one after another."""
    for stale in folder.iterdir():
        stale.unlink()
    for ends, members in _buckets(spilled):
        sizes = np.diff(ends)
        of_bucket = windows[members[ends[:-1]]] if len(sizes) else windows[:0]
        for window in np.unique(of_bucket):
            chosen = of_bucket == window
            with open(folder / f"{window:05d}.sizes", "ab") as file:
                file.write(sizes[chosen].tobytes())
            with open(folder / f"{window:05d}.buckets", "ab") as file:
                file.write(members[np.repeat(chosen, sizes)].tobytes())


def _write_shingles(
    runs: Runs, parts: list[Part], distinct: Distinct, windows: np.ndarray, settings: NearDuplicates, folder: Path
) -> None:
    """Hand each window the shingles of its documents, and what decides which of them stay."""
    shown = chosen(runs, parts, distinct, windows >= 0, ("text",))
    for numbers, rows in progress(shown, doing="gathering candidates", total=len(parts), unit="parts"):
        texts, of_text = joined(rows["text"]), windows[numbers]
        for places in _slices(texts):
            for window in np.unique(of_text[places]):
                mine = places[of_text[places] == window]
                _append_shingles(folder, window, texts.take(pa.array(mine)), numbers[mine], distinct, settings)
        del rows, texts  # before the next part is read


def _slices(texts: pa.Array) -> Iterator[np.ndarray]:
    """The places of texts, so many at once as have shingles for a little memory."""
    total = np.cumsum(pc.binary_length(texts).to_numpy())
    bounds = np.searchsorted(total, np.arange(0, total[-1] if len(total) else 0, _BYTES_TO_SHINGLE))
    return (places for places in np.split(np.arange(len(total)), bounds) if len(places))


def _append_shingles(
    folder: Path, window: int, texts: pa.Array, numbers: np.ndarray, distinct: Distinct, settings: NearDuplicates
) -> None:
    shingles = Shingles.of(texts, settings).distinct()
    columns = {
        "hashes": shingles.hashes,
        "counts": np.diff(shingles.ends),
        "numbers": numbers,
        "lengths": distinct.lengths[numbers],
        "qualities": distinct.qualities[numbers],
    }
    for name, values in columns.items():
        with open(folder / f"{window:05d}.{name}", "ab") as file:
            file.write(values.tobytes())


def _bands(column: pa.ChunkedArray) -> np.ndarray:
    """uint64 [D, bands] of a column of fixed-size binary."""
    array = joined(column)
    width = array.type.byte_width // 8
    begin = array.offset * width
    flat = np.frombuffer(array.buffers()[1], dtype=np.uint64)[begin : begin + len(array) * width]
    return flat.reshape(len(array), width)


# ------------------------------------------------------------------------------------------------------ verification


def verify_window(window: int, *, ledger: Ledger, settings: NearDuplicates) -> Path:
    """Compare the candidates of a window and write what is to be removed; returns the file."""
    piece, path = f"window-{window:05d}", ledger.part("verified") / f"{window:05d}.npz"
    if ledger.finished(piece) is None:
        removals = _verified(ledger.part("windows") / f"{window:05d}", settings)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **{field.name: getattr(removals, field.name) for field in fields(Removals)})
        ledger.finish(piece, [path], {})
    return path


def _read_removals(path: Path) -> Removals:
    with np.load(path) as arrays:
        return Removals(**{field.name: arrays[field.name] for field in fields(Removals)})


def _verified(stem: Path, settings: NearDuplicates) -> Removals:
    def read(name: str, dtype: type) -> np.ndarray:
        return np.fromfile(stem.with_suffix(f".{name}"), dtype=dtype)

    numbers = read("numbers", np.int64)
    # Mapped: a single cluster may be larger than a window.
    hashes = np.memmap(stem.with_suffix(".hashes"), dtype=np.uint64, mode="r")
    shingles = Shingles(hashes, np.concatenate([[0], np.cumsum(read("counts", np.int64))]))
    ends = np.concatenate([[0], np.cumsum(read("sizes", np.int64))])
    members = np.searchsorted(numbers, read("buckets", np.int64))
    clusters, compared = np.arange(len(numbers)), np.zeros(1, dtype=np.int64)
    arrays = (members, shingles.hashes, shingles.ends)
    native().join_similar(
        *(address(ends), len(ends) - 1, *map(address, arrays), settings.threshold, address(clusters), address(compared))
    )
    native().find_roots(address(clusters), len(clusters))
    order = np.lexsort((numbers, -read("lengths", np.int64), -_known(read("qualities", np.float32)), clusters))
    leads = np.ones(len(order), dtype=bool)
    leads[1:] = clusters[order][1:] != clusters[order][:-1]
    kept = order[np.flatnonzero(leads)][np.cumsum(leads) - 1][~leads]
    removed = order[~leads]
    return Removals(numbers[removed], numbers[kept], shingles.jaccard(removed, kept))


def _known(qualities: np.ndarray) -> np.ndarray:
    """Qualities with those unknown below all others."""
    return np.where(np.isnan(qualities), -np.inf, qualities)
