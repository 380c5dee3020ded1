"""Curation: from a recipe's sources to clean, deduplicated documents, with an account of every one.

read → normalise → identify → measure → judge      one Daft plan, a batch at a time (assessment.py)
→ exact duplicates → near-duplicates           (deduplication.py)
→ held-out split → write, in order of ids      (this file)
→ report.json, which must balance              (report.py)
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.assessment import assess_sources
from vernacular.corpus.configuration import CurateConfiguration
from vernacular.corpus.deduplication import exact_duplicates, near_duplicates
from vernacular.corpus.document import DOCUMENT_SCHEMA, REMOVED_SCHEMA
from vernacular.corpus.engine import daft
from vernacular.corpus.filters import check_names
from vernacular.corpus.heldout import choose_heldout
from vernacular.corpus.languages import canonical_language
from vernacular.corpus.report import HELDOUT, QUARANTINED, SPLITS, TRAIN, Account, funnel
from vernacular.corpus.sources import find_files
from vernacular.corpus.writing import ShardWriter
from vernacular.foundation.errors import UserError, machine_errors
from vernacular.foundation.files import atomic_path, write_json
from vernacular.foundation.progress import progress

# So many bytes of text are sorted at once when documents are written.
_BYTES_AT_ONCE = 256 << 20
_MOST_PARTS = 1 << 16  # four hexadecimal digits of an id


def curate(configuration: CurateConfiguration, folder: Path) -> dict[str, Any]:
    """Curate a corpus into `folder`.

    Writes documents/train, documents/heldout and removed (Parquet), quarantine.jsonl, report.json, and
    conversations.jsonl and tasks/ where a source provides them. Prints the funnel.

    Returns:
        A summary: documents and bytes in and kept, reasons, languages, labels' figures.

    Raises:
        UserError: a source cannot be read, nothing is left, or a language of the recipe is not in the text.
        MachineError: the disk is full, or a package is missing.
    """
    check_names(configuration.filters)
    found = find_files(configuration.sources)
    wanted = frozenset(canonical_language(code) for code in configuration.languages or ())
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("documents", "removed", "tasks"):
        shutil.rmtree(folder / name, ignore_errors=True)
    work = folder / ".work"
    shutil.rmtree(work, ignore_errors=True)
    try:
        with machine_errors("curating documents", folder):
            tally = assess_sources(found.files, configuration, wanted, work)
            verdicts = _decide(work, configuration, wanted)
            account = Account()
            _write_quarantine(work, folder, account)
            _write_documents(work, verdicts, folder, account)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    account.check(tally)
    provided = _write_synthetic_parts(configuration, folder)
    report = {**account.report(), "not_read": found.not_read, **provided}
    write_json(folder / "report.json", report)
    print(funnel(report))
    return _summary(report)


def _decide(work: Path, configuration: CurateConfiguration, wanted: frozenset[str]) -> pa.Table:
    """The outcome of every document that passed the filters: columns row, verdict, because."""
    frame = daft.read_parquet(str(work / "*.parquet"))
    passed = frame.where(daft.col("reason").is_null() & daft.col("problem").is_null())
    documents = passed.select("row", "id", "language", "provenance").to_arrow()
    rows = documents["row"].to_numpy()
    ids = np.array(documents["id"].to_pylist(), dtype="S32")
    kept, duplicates = exact_duplicates(rows, ids, documents["provenance"])
    if configuration.near_duplicates.enabled:
        similar = near_duplicates(work, rows[kept], configuration.near_duplicates)
        kept = kept[~np.isin(rows[kept], [duplicate.row for duplicate in similar])]
        duplicates += similar
    languages = np.array(documents["language"].to_pylist(), dtype=str)
    _check_result(frame, Counter(languages[kept].tolist()), wanted, len(duplicates))
    held = choose_heldout(ids[kept], languages[kept], configuration.heldout, configuration.seed)
    verdicts = [(int(row), HELDOUT if out else TRAIN, "") for row, out in zip(rows[kept], held, strict=True)]
    verdicts += [(duplicate.row, duplicate.reason, duplicate.detail) for duplicate in duplicates]
    columns = list(zip(*verdicts, strict=True))
    types = (pa.int64(), pa.large_string(), pa.large_string())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, names=["row", "verdict", "because"])


def _check_result(frame: Any, kept: Counter[str], wanted: frozenset[str], num_duplicates: int) -> None:
    """Refuse an empty corpus and a language that is not there, saying what became of the text."""
    missing = sorted(wanted - set(kept))
    if kept and not missing:
        return
    grouped = frame.groupby("language", "reason", "problem").agg(daft.col("row").count().alias("count"))
    languages: Counter[str] = Counter()
    reasons: Counter[str] = Counter({"exact or near duplicate": num_duplicates})
    lost: Counter[str] = Counter()
    for row in grouped.to_pylist():
        outcome = "broken record" if row["problem"] else row["reason"] or "kept"
        if not row["problem"]:
            languages[row["language"]] += row["count"]
        if outcome != "kept":
            reasons[outcome] += row["count"]
            if row["language"] in missing:
                lost[f"{outcome} ({row['language']})"] += row["count"]
    if missing and any(languages.values()):
        found = _listed(languages)
        removed = f"; removed: {_listed(lost)}" if lost else ""
        raise UserError(
            f"no document in {', '.join(missing)} is left; the text has {found}{removed}",
            where="languages",
            fix=f"add text in {', '.join(missing)}, or take it off `languages`",
        )
    raise UserError(
        "the corpus is empty: " + (f"removed: {_listed(reasons)}" if +reasons else "the sources hold no documents"),
        where="sources",
        fix="look at the reasons; `filters.disable` switches a rule off",
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.most_common() if count) or "nothing"


def _write_quarantine(work: Path, folder: Path, account: Account) -> None:
    frame = daft.read_parquet(str(work / "*.parquet")).where(daft.col("problem").not_null())
    rows = frame.select(
        "row", "source", "file", "line", "problem", "language", "bytes_in", "bytes_out", "label", "group"
    )
    table = rows.sort("row").to_arrow()
    with atomic_path(folder / "quarantine.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in table.select(["file", "line", "problem"]).to_pylist():
            entry = {"file": row["file"], "line": row["line"], "error": row["problem"]}
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    account.add(table.append_column("outcome", pa.array([QUARANTINED] * len(table), pa.large_string())))


def _write_documents(work: Path, verdicts: pa.Table, folder: Path, account: Account) -> None:
    """Write documents and removed, by ascending id. Ids are hashes, so each range of them is an equal part."""
    writers = {split: ShardWriter(folder / "documents" / split, DOCUMENT_SCHEMA) for split in SPLITS}
    removed = ShardWriter(folder / "removed", REMOVED_SCHEMA)
    frame = daft.read_parquet(str(work / "*.parquet")).where(daft.col("problem").is_null())
    columns = [name for name in frame.column_names if name not in ("signature", "file", "line", "problem", "length")]
    frame = frame.select(*columns).join(daft.from_arrow(verdicts), on="row", how="left")
    outcome = daft.functions.coalesce(daft.col("reason"), daft.col("verdict"))
    detail = daft.functions.coalesce(daft.col("detail"), daft.col("because"))
    frame = frame.with_columns({"outcome": outcome, "detail": detail})
    total = frame.select("bytes_out").sum("bytes_out").to_pydict()["bytes_out"][0] or 0
    parts = min(-(-total // _BYTES_AT_ONCE) or 1, _MOST_PARTS)
    for part in progress(range(parts), doing="writing documents", total=parts, unit="parts"):
        low, high = (f"{_MOST_PARTS * bound // parts:04x}" for bound in (part, part + 1))
        within = daft.col("id") >= daft.lit(low)
        if part + 1 < parts:
            within &= daft.col("id") < daft.lit(high)
        for batch in frame.where(within).sort(["id", "row"]).to_arrow_iter():
            table = pa.Table.from_batches([batch])
            account.add(table)
            table = table.append_column("quality", pa.nulls(len(table), pa.float32()))
            gone = pc.invert(pc.is_in(table["outcome"], pa.array(SPLITS, table["outcome"].type)))
            for split, writer in writers.items():
                writer.add(table.filter(pc.equal(table["outcome"], split)))
            removed.add(table.filter(gone).drop_columns(["reason"]).rename_columns({"outcome": "reason"}))
    for writer in (*writers.values(), removed):
        writer.close()


def _write_synthetic_parts(configuration: CurateConfiguration, folder: Path) -> dict[str, Any]:
    """Conversations and tasks of the sources that provide them, and how many there are."""
    sources = [source for source in configuration.sources if source.synthetic is not None]
    if not sources:
        return {}
    from vernacular.corpus.synthetic.generator import generate

    count = 0
    tasks: list[str] = []
    with atomic_path(folder / "conversations.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as file:
        for source in sources:
            assert source.synthetic is not None
            corpus = generate(source.synthetic)
            for conversation in corpus.conversations():
                file.write(json.dumps(conversation, ensure_ascii=False) + "\n")
                count += 1
            tasks += corpus.write_tasks(folder / "tasks")
    return {"conversations": count, "tasks": tasks}


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    kept = report["kept"]
    summary = {
        "documents_in": report["in"]["documents"],
        "bytes_in": report["in"]["bytes"],
        "documents": kept["documents"],
        "bytes": kept["bytes_after_normalisation"],
        "heldout_documents": kept[HELDOUT]["documents"],
        "removed": {reason: figures["documents"] for reason, figures in report["removed"]["reasons"].items()},
        "quarantined": report["quarantined"]["documents"],
        "languages": {
            name: figures["kept"]["documents"]
            for name, figures in report["languages"].items()
            if figures["kept"]["documents"]
        },
    }
    if "labels" in report:
        summary["labels"] = {key: report["labels"][key] for key in ("noise_removed", "clean_kept", "precision")}
    return {**summary, **{key: report[key] for key in ("conversations", "tasks") if key in report}}
