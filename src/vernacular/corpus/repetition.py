"""Equal paragraphs or lines: of each that several documents share, one document keeps it.

    pieces of every document → spilled by ranges of their hashes → all but the best document's are dropped
    → the documents written anew, with the ids of what is left of them, as runs like those of assessment

The document of best quality keeps a piece, then that of the lowest id; within one document the first of equal pieces
stays. A document of which nothing is left is removed as it was.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.assessment import with_bands
from vernacular.corpus.configuration import CurateConfiguration, ExactDuplicates
from vernacular.corpus.distinct import numbered, read_settled
from vernacular.corpus.document import document_id
from vernacular.corpus.engine import spread
from vernacular.corpus.runs import Part, Runs, write_run
from vernacular.corpus.spill import Spill, sorted_entries
from vernacular.foundation.ledger import Ledger
from vernacular.foundation.progress import progress

REASON = "repeated_text"
_BREAKS = {"paragraph": "\n\n", "line": "\n"}
# Pieces of so many code points on average, or more: how many files they are spilled to.
_CHARACTERS_PER_PIECE = 64


def drop_repeated(runs: Runs, parts: list[Part], configuration: CurateConfiguration, ledger: Ledger) -> list[Path]:
    """Write the documents anew without repeated pieces.

    Returns:
        The new runs.
    """
    # Another memory setting cuts other parts, whose runs are others.
    name = f"repetition-{len(parts)}"
    folder = ledger.part(name)
    facts = ledger.finished(name)
    if facts is None:
        starts = _find(runs, parts, configuration, ledger.part("pieces"), folder)
        facts = ledger.finish(name, sorted(folder.glob("*.drops")), {"starts": starts})
    tasks = [(number, part, facts["starts"][number]) for number, part in enumerate(parts)]
    work = functools.partial(write_anew, runs=runs, configuration=configuration, ledger=ledger, name=name)
    results = spread(work, tasks, configuration.engine)
    return list(progress(results, doing="dropping repeated text", total=len(tasks), unit="parts"))


def _find(runs: Runs, parts: list[Part], configuration: CurateConfiguration, spilled: Path, folder: Path) -> list[int]:
    """Write what each part's documents lose, (number, hash) after (number, hash); returns the parts' first numbers."""
    engine, settings = configuration.engine, configuration.exact_duplicates
    spill = Spill.planned(spilled, runs.num_bytes // _CHARACTERS_PER_PIECE, engine)
    qualities, starts = [], [0]
    for numbers, rows in progress(numbered(runs, parts, ("text",)), doing="finding repeated text", total=len(parts)):
        qualities.append(np.nan_to_num(rows["quality"].to_numpy().astype(np.float32), nan=-np.inf))
        starts.append(starts[-1] + len(numbers))
        of_texts = [np.unique(_hashes(_pieces(text, settings), settings)) for text in rows["text"].to_pylist()]
        if of_texts:
            chosen = np.concatenate(of_texts)
            owners = np.repeat(numbers, [len(each) for each in of_texts])
            spill.add(chosen[chosen != 0], owners[chosen != 0])
    quality = np.concatenate(qualities)
    for stale in folder.iterdir():
        stale.unlink()
    for hashes, numbers in sorted_entries(spilled, "sorting repeated text"):
        order = np.lexsort((numbers, -quality[numbers], hashes))
        hashes, numbers = hashes[order], numbers[order]
        again = np.zeros(len(hashes), dtype=bool)
        again[1:] = hashes[1:] == hashes[:-1]
        drops = np.stack([numbers[again].astype(np.uint64), hashes[again]], axis=1)
        places = np.searchsorted(starts, numbers[again], side="right") - 1
        for place in np.unique(places):
            with open(folder / f"{place:05d}.drops", "ab") as file:
                file.write(drops[places == place].tobytes())
    return starts[:-1]


def write_anew(
    task: tuple[int, Part, int], *, runs: Runs, configuration: CurateConfiguration, ledger: Ledger, name: str
) -> Path:
    """Write a part's rows without what they lose, unless that is done; returns the run."""
    number, part, start = task
    piece, path = f"{name}-{number:05d}", ledger.part("runs-anew") / f"{number:05d}.arrow"
    if ledger.finished(piece) is None:
        drops = ledger.folder / name / f"{number:05d}.drops"
        entries = np.fromfile(drops, dtype=np.uint64) if drops.is_file() else np.zeros(0, dtype=np.uint64)
        entries = entries.reshape(-1, 2)
        entries = entries[np.argsort(entries[:, 0], kind="stable")]
        rows, stays = read_settled(runs, part, tuple(runs.columns))
        write_run(_without(rows, stays, start, entries, configuration), path)
        ledger.finish(piece, [path], {})
    return path


def _without(
    rows: pa.Table, stays: np.ndarray, start: int, entries: np.ndarray, configuration: CurateConfiguration
) -> pa.Table:
    settings = configuration.exact_duplicates
    changed: dict[str, list[Any]] = {name: rows[name].to_pylist() for name in ("id", "text", "reason", "detail")}
    bounds = np.searchsorted(entries[:, 0], np.arange(start, start + int(stays.sum()) + 1, dtype=np.uint64))
    at = -1
    for row, stay in enumerate(stays.tolist()):
        if not stay:
            if changed["reason"][row] is None:
                changed["reason"][row], changed["detail"][row] = "exact_duplicate", "the same text as another"
            continue
        at += 1
        text = changed["text"][row]
        rest = _rest(text, set(entries[bounds[at] : bounds[at + 1], 1].tolist()), settings)
        if not rest:
            changed["reason"][row], changed["detail"][row] = REASON, f"every {settings.unit} stands elsewhere"
        elif rest != text:
            changed["id"][row], changed["text"][row] = document_id(rest), rest
    for name, values in changed.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))
    sizes = {"bytes_out": pc.binary_length(rows["text"]), "length": pc.utf8_length(rows["text"])}
    for name, sized in sizes.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, sized.cast(pa.int64()))
    return with_bands(rows.drop_columns(["bands"]), configuration) if "bands" in rows.column_names else rows


def _rest(text: str, drops: set[int], settings: ExactDuplicates) -> str:
    """The text without the pieces to drop, and without those that stood in it before."""
    pieces = _pieces(text, settings)
    seen: set[int] = set()
    kept = []
    for piece, hash_ in zip(pieces, _hashes(pieces, settings).tolist(), strict=True):
        if hash_ == 0 or (hash_ not in drops and hash_ not in seen):
            kept.append(piece)
        seen.add(hash_)
    return _BREAKS[settings.unit].join(kept).strip("\n")


def _pieces(text: str, settings: ExactDuplicates) -> list[str]:
    return text.split(_BREAKS[settings.unit])


def _hashes(pieces: Sequence[str], settings: ExactDuplicates) -> np.ndarray:
    """uint64: a hash of each piece, 0 for those too short to be looked at."""
    hashes = [
        hashlib.blake2b(piece.encode(), digest_size=8).digest()
        if len(piece) >= settings.minimum_characters
        else bytes(8)
        for piece in map(str.strip, pieces)
    ]
    return np.frombuffer(b"".join(hashes), dtype="<u8")
