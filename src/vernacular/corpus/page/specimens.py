"""Documents to read, chosen from a curated artifact by their ids: ids are hashes, so the lowest are a fair draw.

Whatever the corpus holds, few documents are held: languages and reasons are read first, texts only of what is chosen,
a group of rows at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import regex

from vernacular.corpus.configuration import PersonalKind
from vernacular.corpus.document import document_files
from vernacular.corpus.output import NEAR, near_of
from vernacular.corpus.personal import mask
from vernacular.corpus.report import SPLITS, TRAIN

EXCERPT = 900
_KEPT_OF_A_LANGUAGE = 3
_REMOVED_FOR_A_REASON = 8
_REMOVED_OF_A_LANGUAGE = 3
_CLUSTERS = 8
_MEMBERS = 3

Rows = list[dict[str, Any]]
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class Cluster:
    """Near-duplicates: the document that stays, and some of those that went for it.

    Attributes:
        kept: its row.
        size: documents, the one that stays among them.
        members: rows, each with its `similarity`.
    """

    kept: dict[str, Any]
    size: int
    members: Rows


@dataclass(frozen=True, order=True)
class _Place:
    path: Path
    group: int
    row: int


def kept_documents(folder: Path, languages: Sequence[str]) -> dict[str, Rows]:
    """By language (in the order given) some documents for training, their texts cut and masked."""
    chosen = _first(document_files(folder, TRAIN), ["language"], _KEPT_OF_A_LANGUAGE)
    return _read_groups({language: chosen[(language,)] for language in languages if (language,) in chosen})


def removed_documents(folder: Path) -> dict[str, Rows]:
    """By reason some of the documents it removed, from as many languages as there are places."""
    found = _first(sorted((folder / "removed").glob("*.parquet")), ["reason", "language"], _REMOVED_OF_A_LANGUAGE)
    of_reason: defaultdict[str, list[tuple[int, _Place]]] = defaultdict(list)
    for (reason, _), places in found.items():
        of_reason[reason] += enumerate(places)
    # One of each language before a second of any; among these the lowest ids.
    return _read_groups(
        {
            reason: [place for _, place in sorted(entries)[:_REMOVED_FOR_A_REASON]]
            for reason, entries in sorted(of_reason.items())
        }
    )


def clusters(folder: Path) -> tuple[dict[int, int], list[Cluster]]:
    """How many clusters of near-duplicates there are of each size, and some: the largest, and a draw of the others."""
    kept_ids, places = [], []
    for path, group, table in _groups(sorted((folder / "removed").glob("*.parquet")), ["reason", "detail"]):
        for row in np.flatnonzero(pc.equal(table["reason"], NEAR).to_numpy()):
            kept_ids.append(near_of(table["detail"][int(row)].as_py())[1].encode())
            places.append((path, group, int(row)))
    if not kept_ids:
        return {}, []
    ids, of_place, sizes = np.unique(np.array(kept_ids), return_inverse=True, return_counts=True)
    largest = np.argsort(-sizes, kind="stable")[: _CLUSTERS // 2].tolist()
    others = [place for place in range(len(ids)) if place not in largest][: _CLUSTERS - len(largest)]
    chosen = [*largest, *others]
    kept = _by_id(folder, [ids[place].decode() for place in chosen])
    members = _read_groups(
        {place: [_Place(*places[at]) for at in np.flatnonzero(of_place == place)[:_MEMBERS]] for place in chosen}
    )
    found = []
    for place in chosen:
        rows = [{**member, "similarity": near_of(member["detail"])[0]} for member in members[place]]
        found.append(Cluster(kept[ids[place].decode()], int(sizes[place]) + 1, rows))
    numbers = np.bincount(sizes + 1)
    return {int(size): int(numbers[size]) for size in np.flatnonzero(numbers)}, found


def excerpt(text: str, most: int = EXCERPT) -> str:
    """The beginning of a text, cut between words where one ends near, and never inside a grapheme."""
    if len(text) <= most:
        return text
    begun = text[:most]
    words = regex.match(r"(?s).*\s", begun[most - 60 :])
    return begun[: most - 60 + words.end()].rstrip() if words else regex.sub(r"\X\Z", "", begun)


def _groups(files: Iterable[Path], columns: list[str]) -> Iterator[tuple[Path, int, pa.Table]]:
    for path in files:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield path, group, file.read_row_group(group, columns=columns)


def _first(files: Iterable[Path], keys: list[str], most: int) -> dict[tuple[str, ...], list[_Place]]:
    """Of each combination of `keys` where the first rows stand."""
    found: defaultdict[tuple[str, ...], list[_Place]] = defaultdict(list)
    for path, group, table in _groups(files, keys):
        rows = table.append_column("row", pa.array(np.arange(len(table))))
        for entry in rows.group_by(keys, use_threads=False).aggregate([("row", "list")]).to_pylist():
            places = found[tuple(entry[key] for key in keys)]
            places += [_Place(path, group, row) for row in sorted(entry["row_list"])[: most - len(places)]]
    return dict(found)


def _read_groups(places: Mapping[_Key, Sequence[_Place]]) -> dict[_Key, Rows]:
    """As `_read`, of several lists at once: each group of rows is read once."""
    rows = iter(_read([place for each in places.values() for place in each]))
    return {key: list(islice(rows, len(each))) for key, each in places.items()}


def _read(places: Sequence[_Place]) -> Rows:
    """The rows at some places, their texts cut to excerpts and masked."""
    by_group: defaultdict[tuple[Path, int], list[_Place]] = defaultdict(list)
    for place in places:
        by_group[place.path, place.group].append(place)
    rows: dict[_Place, dict[str, Any]] = {}
    for (path, group), mine in by_group.items():
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(group).take([place.row for place in mine])
        rows |= dict(zip(mine, table.to_pylist(), strict=True))
    return _presentable([rows[place] for place in places])


def _presentable(rows: Rows) -> Rows:
    """The rows with `length` in code points, and their texts cut; personal data is masked whatever the recipe says."""
    if not rows:
        return rows
    # Cut first, with something to spare: a text may be a book.
    near = pa.array([excerpt(row["text"], 2 * EXCERPT) for row in rows], pa.large_string())
    texts, _ = mask(near, [row["language"] for row in rows], get_args(PersonalKind))
    return [
        {**row, "length": len(row["text"]), "text": excerpt(shown)}
        for row, shown in zip(rows, texts.to_pylist(), strict=True)
    ]


def _by_id(folder: Path, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Kept documents by their ids, found by the least and greatest id of each group of rows."""
    wanted = set(ids)
    found: dict[str, dict[str, Any]] = {}
    for path in (path for split in SPLITS for path in document_files(folder, split)):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                bounds = file.metadata.row_group(group).column(0).statistics
                if any(bounds.min <= each <= bounds.max for each in wanted - found.keys()):
                    held = file.read_row_group(group, columns=["id"])["id"].to_pylist()
                    mine = [row for row, each in enumerate(held) if each in wanted]
                    found |= {row["id"]: row for row in _read([_Place(path, group, row) for row in mine])}
    return found
