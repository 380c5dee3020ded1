"""Distinct documents: of equal texts one stays, and the ones that stay are numbered by ascending id.

Which one stays is asked of what the rows hold, never of where they stood: one that passed the filters before one that
did not, then the better quality, the earlier source of the recipe, and so on through every column that reaches the
artifact. Rows equal in all of these are interchangeable, so that shuffled or re-split files give the same corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.document import ID_LENGTH
from vernacular.corpus.gathering import joined, rows_at
from vernacular.corpus.runs import Part, Runs

# After the id and whether it passed: the best comes first.
_STANDING = {
    "quality": "descending",
    "order": "ascending",
    "name": "ascending",
    "language": "ascending",
    "script": "ascending",
    "reason": "ascending",
    "detail": "ascending",
    "label": "ascending",
    "group": "ascending",
    "bytes_in": "ascending",
    "lines_cut": "ascending",
    "masked": "ascending",
}


def read_settled(runs: Runs, part: Part, columns: tuple[str, ...] = ()) -> tuple[pa.Table, np.ndarray]:
    """The rows of a part by ascending id, the best of each id first.

    Returns:
        The rows, with `columns` and those that decide; and bool [R]: which rows stay, the first of each id if it
        passed the filters.
    """
    rows = _read(runs, part, columns)
    order, stays = _order(rows)
    return rows_at(rows, order), stays


def _read(runs: Runs, part: Part, columns: tuple[str, ...]) -> pa.Table:
    return runs.read(part, list(dict.fromkeys(["id", *_STANDING, *columns])))


def _order(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Where each row of `read_settled` stands in `rows` (int64 [R]), and whether it stays (bool [R])."""
    ids = id_bytes(rows["id"])
    order = np.argsort(ids, kind="stable")
    again = np.zeros(len(order), dtype=bool)
    again[1:] = ids[order][1:] == ids[order][:-1]
    order = _settled(rows, order, again)
    return order, ~again & pc.is_null(rows["reason"]).to_numpy()[order]


def _settled(rows: pa.Table, order: np.ndarray, again: np.ndarray) -> np.ndarray:
    """`order` (by id) with the rows of each id that stands more than once put in order of standing."""
    shared = again.copy()
    shared[:-1] |= again[1:]
    places = np.flatnonzero(shared)
    if not len(places):
        return order
    few = rows_at(rows.select(["id", *_STANDING]), order[places])
    few = few.append_column("removed", pc.is_valid(few["reason"]))
    keys = [("id", "ascending"), ("removed", "ascending"), *_STANDING.items()]
    settled = order.copy()
    settled[places] = order[places][pc.sort_indices(few, sort_keys=keys).to_numpy()]
    return settled


def id_bytes(column: pa.ChunkedArray) -> np.ndarray:
    """Ids as bytes, S32 [D]."""
    if not len(column):
        return np.zeros(0, dtype=f"S{ID_LENGTH}")
    ids = joined(column).cast(pa.binary(ID_LENGTH))
    return np.frombuffer(ids.buffers()[1], dtype=f"S{ID_LENGTH}")[ids.offset : ids.offset + len(ids)]


@dataclass(frozen=True)
class Distinct:
    """The D documents that stay so far, by ascending id: all that is held of each in memory, some 60 bytes.

    Attributes:
        ids: S32 [D].
        lengths: int64 [D], in code points.
        qualities: float32 [D], NaN where there is none.
        languages: int32 [D], positions in `names`.
        places: int64 [D], where each stands among the rows of its part as they are read.
        names: the languages.
        starts: int64 [parts + 1]; part p holds the documents from `starts[p]` to before `starts[p + 1]`.
    """

    ids: np.ndarray
    lengths: np.ndarray
    qualities: np.ndarray
    languages: np.ndarray
    places: np.ndarray
    names: list[str]
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


class Numbering:
    """Gathers the distinct documents part by part."""

    def __init__(self) -> None:
        self._columns: list[tuple[np.ndarray, ...]] = []
        self._codes: dict[str, int] = {}
        self._starts = [0]

    def add(self, rows: pa.Table, places: np.ndarray) -> np.ndarray:
        """Number the next documents (rows that stay, with id, length, quality and language); int64 [rows].

        Args:
            rows: of the next part.
            places: int64 [rows], where they stand among all of its rows.
        """
        encoded = joined(rows["language"]).dictionary_encode()
        codes = [self._codes.setdefault(name, len(self._codes)) for name in encoded.dictionary.to_pylist()]
        self._columns.append(
            (
                id_bytes(rows["id"]).copy(),
                rows["length"].to_numpy(),
                rows["quality"].to_numpy().astype(np.float32),
                np.array(codes, dtype=np.int32)[encoded.indices.to_numpy()],
                places,
            )
        )
        begin = self._starts[-1]
        self._starts.append(begin + rows.num_rows)
        return np.arange(begin, self._starts[-1])

    def distinct(self) -> Distinct:
        """All that were added."""
        ids, lengths, qualities, languages, places = map(np.concatenate, zip(*self._columns, strict=True))
        return Distinct(ids, lengths, qualities, languages, places, list(self._codes), np.array(self._starts))


def settled(runs: Runs, part: Part, columns: tuple[str, ...]) -> tuple[np.ndarray, pa.Table]:
    """The distinct documents of a part: where they stand in it (int64 [D]); id, quality, language and `columns`."""
    rows = _read(runs, part, columns)
    order, stays = _order(rows)
    return order[stays], rows_at(rows.select(["id", "quality", "language", *columns]), order[stays])


def numbered(runs: Runs, parts: list[Part], columns: tuple[str, ...]) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """The distinct documents of each part: their numbers (int64 [D]), id, quality, language and `columns`."""
    begin = 0
    for part in parts:
        _, rows = settled(runs, part, columns)
        yield np.arange(begin, begin + rows.num_rows), rows
        begin += rows.num_rows


def chosen(
    runs: Runs, parts: list[Part], distinct: Distinct, wanted: np.ndarray, columns: tuple[str, ...]
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Of each part the documents that are `wanted` (bool [D]): their numbers (int64) and `columns`."""
    for part, begin, end in zip(parts, distinct.starts[:-1], distinct.starts[1:], strict=True):
        numbers = begin + np.flatnonzero(wanted[begin:end])
        yield numbers, rows_at(runs.read(part, columns), distinct.places[numbers])
