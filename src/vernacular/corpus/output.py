"""What curation writes: documents and removed ones in order of ids, where each stood, and the broken records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vernacular.corpus.decontamination.findings import Findings
from vernacular.corpus.deduplication import Removals
from vernacular.corpus.distinct import Distinct, read_settled
from vernacular.corpus.document import DOCUMENT_SCHEMA, PLACE_SCHEMA, REMOVED_SCHEMA
from vernacular.corpus.observations import Observations
from vernacular.corpus.report import HELDOUT, QUARANTINED, SPLITS, TRAIN, Account
from vernacular.corpus.runs import Part, Runs
from vernacular.corpus.writing import ShardWriter
from vernacular.foundation.artifact import LOGS
from vernacular.foundation.errors import InternalError
from vernacular.foundation.files import atomic_path
from vernacular.foundation.progress import progress

_COLUMNS = ("text", "source", "provenance", "row", "bytes_out", "length", "items")
_EXACT, NEAR = "exact_duplicate", "near_duplicate"
_SIMILAR = re.compile(r"similarity ([0-9.]+) to ([0-9a-f]+)")


@dataclass(frozen=True)
class Verdicts:
    """What becomes of the D distinct documents.

    Attributes:
        kept: bool [D].
        heldout: bool [D], of those kept.
        removals: those that are not kept.
    """

    kept: np.ndarray
    heldout: np.ndarray
    removals: Removals


def write_quarantine(broken: Path, folder: Path, account: Account) -> None:
    """Write the broken records (runs below `broken`) with their places, and account for them."""
    path = folder / LOGS / "quarantine.jsonl"
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for run in sorted(broken.glob("*.parquet")):
            rows = pq.read_table(run).sort_by("row")
            for row in rows.select(["file", "line", "problem"]).to_pylist():
                entry = {"file": row["file"], "line": row["line"], "error": row["problem"]}
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                if account.first_broken is None:
                    place = row["file"] if row["line"] is None else f"{row['file']}:{row['line']}"
                    account.first_broken = f"{place}: {row['problem']}"
            unknown = pa.nulls(len(rows), pa.large_string())
            outcome = pa.array([QUARANTINED] * len(rows), pa.large_string())
            size = pa.nulls(len(rows), pa.int64())
            rows = rows.append_column("language", unknown).append_column("bytes_out", size)
            account.add(rows.append_column("outcome", outcome))


def write_documents(
    runs: Runs,
    parts: list[Part],
    distinct: Distinct,
    verdicts: Verdicts,
    folder: Path,
    account: Account,
    observations: Observations,
    findings: Findings | None,
) -> None:
    """Write documents, removed ones and places by ascending id, and account for every row and what it held."""
    begin = 0
    with ExitStack() as open_:
        writers = _Writers(
            {
                split: open_.enter_context(ShardWriter(folder / "documents" / split, DOCUMENT_SCHEMA))
                for split in SPLITS
            },
            open_.enter_context(ShardWriter(folder / "removed", REMOVED_SCHEMA)),
            open_.enter_context(ShardWriter(folder / LOGS / "places", PLACE_SCHEMA)),
        )
        for part in progress(parts, doing="writing documents", unit="parts"):
            rows, stays = read_settled(runs, part, _COLUMNS)
            writers.add_places(rows)
            rows = _decided(rows, stays, begin, distinct, verdicts)
            begin += int(stays.sum())
            account.add(rows)
            observations.add(rows)
            if findings is not None:
                findings.add(rows)
            writers.add(rows)
            del rows  # before the next part is read


@dataclass(frozen=True)
class _Writers:
    """Of the documents of each split, the removed ones, and where each stood."""

    documents: dict[str, ShardWriter]
    removed: ShardWriter
    places: ShardWriter

    def add_places(self, rows: pa.Table) -> None:
        stood = rows.select([*PLACE_SCHEMA.names, "row"])
        self.places.add(stood.sort_by([("id", "ascending"), ("row", "ascending")]))

    def add(self, rows: pa.Table) -> None:
        for split, writer in self.documents.items():
            writer.add(rows.filter(pc.equal(rows["outcome"], split)))
        gone = pc.invert(pc.is_in(rows["outcome"], pa.array(SPLITS)))
        self.removed.add(rows.filter(gone).rename_columns({"outcome": "reason"}))


def _decided(rows: pa.Table, stays: np.ndarray, begin: int, distinct: Distinct, verdicts: Verdicts) -> pa.Table:
    """The rows of a part with their outcomes; the distinct documents (`stays`) are numbered from `begin` on."""
    numbers = np.full(len(stays), -1)
    numbers[stays] = np.arange(begin, begin + stays.sum())
    return _with_outcomes(rows, numbers, distinct, verdicts)


def _with_outcomes(rows: pa.Table, numbers: np.ndarray, distinct: Distinct, verdicts: Verdicts) -> pa.Table:
    """The rows with `outcome` (split or reason) and `detail`; numbers int64 [R], -1 for those that do not stay."""
    outcomes = [_EXACT if reason is None else reason for reason in rows["reason"].to_pylist()]
    details = rows["detail"].to_pylist()
    names = rows["name"].to_pylist()
    sources = rows["source"].to_pylist()
    near = dict(_near(numbers, distinct, verdicts.removals))
    original = 0
    for row, number in enumerate(numbers.tolist()):
        if number >= 0:
            original = row
            split = HELDOUT if verdicts.heldout[number] else TRAIN
            outcomes[row], details[row] = (split, "") if verdicts.kept[number] else (NEAR, near[number])
        elif outcomes[row] == _EXACT:
            named = f" ({names[original]})" if names[original] else ""
            details[row] = f"the same text as one of {sources[original]}{named}"
    kept = rows.drop_columns(["reason", "detail", "name"])
    for name, values in (("outcome", outcomes), ("detail", details), ("provenance", [name or "" for name in names])):
        if name in kept.column_names:
            kept = kept.drop_columns([name])
        kept = kept.append_column(name, pa.array(values, pa.string()))
    return kept


def _near(numbers: np.ndarray, distinct: Distinct, removals: Removals) -> Iterator[tuple[int, str]]:
    """The near-duplicates among documents, and what they are near."""
    chosen = numbers[numbers >= 0]
    if len(chosen):
        first, last = np.searchsorted(removals.removed, [chosen[0], chosen[-1] + 1])
        for place in range(first, last):
            kept = distinct.ids[removals.kept[place]].decode()
            yield int(removals.removed[place]), f"similarity {removals.similarity[place]:.3f} to {kept}"


def near_of(detail: str) -> tuple[float, str]:
    """The similarity, and the id of the document that stays, from the detail of a near-duplicate."""
    found = _SIMILAR.fullmatch(detail)
    if found is None:
        raise InternalError(f"'{detail}' is no near-duplicate's detail")
    return float(found[1]), found[2]
