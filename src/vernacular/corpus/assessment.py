"""One pass over every record: normalise, identify, measure, judge, and note the bands of its MinHash.

The result are sorted runs on disk, from which duplicates are removed and the corpus is written. A task reads some files
and leaves runs of about 32 MB of text; texts are in memory one run at a time per worker. A run that is entered in the
ledger is not assessed again, though its files are read again to find where the next one begins.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vernacular.corpus.configuration import CurateConfiguration
from vernacular.corpus.decontamination.search import ITEMS, decontaminate, search_folder
from vernacular.corpus.document import COMMON_SCRIPT, UNDETERMINED_LANGUAGE, document_ids
from vernacular.corpus.engine import num_workers, spread
from vernacular.corpus.filters import verdicts
from vernacular.corpus.gathering import joined
from vernacular.corpus.identification import Identified, identify
from vernacular.corpus.languages import canonical_language, scripts_of
from vernacular.corpus.normalisation import normalise
from vernacular.corpus.quality.grading import grade
from vernacular.corpus.reading import Tally, read_runs
from vernacular.corpus.repairs import repair
from vernacular.corpus.runs import write_run
from vernacular.corpus.shingles import bands_in_all, minhash_bands
from vernacular.corpus.sources import SourceFile, in_tasks, total_bytes
from vernacular.foundation.files import atomic_path
from vernacular.foundation.ledger import Ledger
from vernacular.foundation.progress import progress

_BYTES_PER_TASK = 64 << 20
_FILES_PER_TASK = 1000
# A large file is read by so many workers at most: each reads all of it, and assesses its share of the runs.
_MOST_READERS = 8
_SECONDS_BETWEEN_LOOKS = 0.5
# Formats in which a file is about as large as its text.
_PLAIN = ("text", "markdown", "jsonl", "csv", "tsv")

_ASSESSED = pa.struct(
    [
        pa.field("text", pa.large_string()),
        pa.field("id", pa.string()),
        pa.field("language", pa.large_string()),
        pa.field("script", pa.large_string()),
        pa.field("quality", pa.float32()),
        pa.field("reason", pa.large_string()),
        pa.field("detail", pa.large_string()),
        pa.field("bytes_out", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("lines_cut", pa.int32()),
        pa.field("masked", pa.large_string()),
        pa.field("items", ITEMS),
    ]
)


@dataclass(frozen=True)
class Task:
    """Files that one worker reads.

    Attributes:
        number: of the task; names its runs.
        files: to read, one after another.
        share: which of its runs are assessed: those whose number leaves this remainder …
        shares: … when divided by this.
    """

    number: int
    files: tuple[SourceFile, ...]
    share: int
    shares: int

    @property
    def piece(self) -> str:
        """Its name in the ledger."""
        return f"read-{self.number:05d}-{self.share}-of-{self.shares}"


def assess_sources(
    files: list[SourceFile], configuration: CurateConfiguration, wanted: frozenset[str], ledger: Ledger
) -> tuple[list[Path], Tally]:
    """Read and assess every file into sorted runs.

    Returns:
        The runs, and what was read, counted on the way.

    Raises:
        UserError: a source cannot be read, or a record is broken and the recipe says `strict`.
    """
    tasks = list(_tasks(files, num_workers(configuration.engine)))
    work = functools.partial(assess_task, configuration=configuration, wanted=wanted, ledger=ledger)
    tally = Tally()
    with _shown(ledger, files):
        for pieces in spread(work, tasks, configuration.engine):
            for source, (records, size) in pieces.items():
                tally.add(source, records, size)
    return sorted(ledger.part("runs").glob("*.arrow")), tally


@contextmanager
def _shown(ledger: Ledger, files: list[SourceFile]) -> Iterator[None]:
    """A bar of the text that is assessed, in bytes; the ledger tells, whichever process did it."""
    plain = all(file.compression is None and file.format in _PLAIN for file in files)
    done, known = threading.Event(), set[str]()
    with progress(doing="reading documents", total=total_bytes(files) if plain else None, unit="B") as bar:

        def follow() -> None:
            while not done.wait(_SECONDS_BETWEEN_LOOKS):
                for facts in ledger.facts("run-", known):
                    bar.update(sum(size for _, size in facts.values()))

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            done.set()
            follower.join()


def _tasks(files: list[SourceFile], workers: int) -> Iterator[Task]:
    groups = in_tasks(files, bytes_per_task=_BYTES_PER_TASK, files_per_task=_FILES_PER_TASK)
    for number, group in enumerate(groups):
        shares = min(workers, _MOST_READERS, total_bytes(group) // _BYTES_PER_TASK + 1)
        for share in range(shares):
            yield Task(number, tuple(group), share, shares)


def assess_task(
    task: Task, *, configuration: CurateConfiguration, wanted: frozenset[str], ledger: Ledger
) -> dict[str, tuple[int, int]]:
    """Assess a task's share of the runs, those already entered left out; records and bytes that it has by source."""
    facts = _facts_of_finished(task, ledger)
    if facts is None:
        facts = {}
        for run, batches in groupby(read_runs(task.files, configuration.strict), key=lambda pair: pair[0]):
            if run % task.shares == task.share:
                piece = f"run-{task.number:05d}-{run:05d}"
                facts[piece] = ledger.finished(piece) or _assess_run(
                    piece, (batch for _, batch in batches), configuration, wanted, ledger
                )
        ledger.finish(task.piece, [], {"runs": sorted(facts)})
    total = Tally()
    for counts in facts.values():
        for source, (records, size) in counts.items():
            total.add(source, records, size)
    return _counts(total)


def _facts_of_finished(task: Task, ledger: Ledger) -> dict[str, dict[str, Any]] | None:
    """The facts about the runs of a task that is finished, and whose runs are whole; else None."""
    entry = ledger.finished(task.piece)
    if entry is None:
        return None
    facts = {piece: ledger.finished(piece) for piece in entry["runs"]}
    whole = {piece: each for piece, each in facts.items() if each is not None}
    return whole if len(whole) == len(facts) else None


def _counts(tally: Tally) -> dict[str, tuple[int, int]]:
    return {source: (records, tally.bytes[source]) for source, records in tally.records.items()}


def _assess_run(
    piece: str,
    batches: Iterator[pa.RecordBatch],
    configuration: CurateConfiguration,
    wanted: frozenset[str],
    ledger: Ledger,
) -> dict[str, Any]:
    """Assess and write one run, the broken records apart from the others, and enter it."""
    tally = Tally()
    places = {source.name: place for place, source in enumerate(configuration.sources)}
    assessed: list[pa.Table] = []
    broken: list[pa.Table] = []
    for batch in batches:
        rows = pa.table(batch)
        sums = rows.group_by("source").aggregate([("bytes_in", "sum"), ([], "count_all")])
        for row in sums.to_pylist():
            tally.add(row["source"], row["count_all"], row["bytes_in_sum"])
        order = pa.array([places[name] for name in batch["source"].to_pylist()], pa.int32())
        rows = rows.append_column("order", order)
        whole = pc.is_null(rows["problem"])
        broken.append(rows.filter(pc.invert(whole)).drop_columns(["text"]))
        assessed.append(_assessed(rows.filter(whole), configuration, wanted, search_folder(ledger)))
    files = [ledger.part("runs") / f"{piece}.arrow"]
    write_run(pa.concat_tables(assessed), files[0])
    problems = pa.concat_tables(broken)
    if problems.num_rows:
        files.append(ledger.part("broken") / f"{piece}.parquet")
        with atomic_path(files[1]) as temporary:
            pq.write_table(problems, temporary, compression="zstd")
    return ledger.finish(piece, files, _counts(tally))


def _assessed(rows: pa.Table, configuration: CurateConfiguration, wanted: frozenset[str], benchmarks: Path) -> pa.Table:
    texts, stated = joined(rows["text"]), rows["stated"].to_pylist()
    found = pa.table(pa.RecordBatch.from_struct_array(assess(texts, stated, configuration, wanted, benchmarks)))
    rest = rows.drop_columns(["text", "stated", "problem", "file", "line"])
    table = pa.table([*rest.columns, *found.columns], names=[*rest.column_names, *found.column_names])
    return with_bands(table, configuration) if configuration.near_duplicates.enabled else table


def with_bands(rows: pa.Table, configuration: CurateConfiguration) -> pa.Table:
    """The rows with the bands of their MinHash; what the filters remove has none and is compared with nothing."""
    near = configuration.near_duplicates
    passed = pc.if_else(pc.is_null(rows["reason"]), rows["text"], "").combine_chunks()
    bands = minhash_bands(passed, near, configuration.seed)
    width = 8 * bands_in_all(near)
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(bands), [None, pa.py_buffer(bands)])
    return rows.append_column("bands", column)


def assess(
    texts: pa.Array,
    stated: list[str | None],
    configuration: CurateConfiguration,
    wanted: frozenset[str],
    benchmarks: Path | None = None,
) -> pa.StructArray:
    """Assess a batch of D raw texts (null where the record is broken) and the languages their sources state.

    Args:
        texts: the texts.
        stated: their languages, None where a source says nothing.
        configuration: the settings.
        wanted: languages to keep; empty keeps all.
        benchmarks: the folder of the index that `decontamination` needs.

    Returns:
        struct [D] with the columns of a run that do not come from the reader.
    """
    texts, num_controls = normalise(pc.fill_null(texts.cast(pa.large_string()), ""), configuration.normalisation)
    said = [canonical_language(language) if language else None for language in stated]
    found = identify(texts, said, configuration.identification, wanted)
    reasons, details = verdicts(texts, num_controls, found.languages, found.scripts, configuration.filters)
    held = pc.binary_length(texts).to_pylist()
    repaired = repair(texts, found.languages, configuration.repairs, configuration.personal_data)
    texts = repaired.texts
    values = texts.to_pylist()
    for index, value in enumerate(values):
        if not value and not (held[index] and reasons[index]):  # what a rule removes keeps the rule's reason
            reasons[index], details[index] = "empty", "no text is left after normalisation and repair"
        elif reasons[index] != "broken_encoding" and (unwanted := _unwanted(found, index, wanted)):
            reasons[index], details[index] = "wrong_language", unwanted
    items = pa.nulls(len(values), ITEMS)
    if configuration.decontamination is not None:
        assert benchmarks is not None
        items = decontaminate(values, reasons, details, configuration.decontamination, benchmarks)
        texts = pa.array(values, pa.large_string())
    quality = pa.nulls(len(values), pa.float32())
    if configuration.quality is not None:
        quality = grade(texts, found.languages, reasons, details, configuration.quality)
    columns = [
        texts,
        document_ids(texts),
        pa.array(found.languages, pa.large_string()),
        pa.array(found.scripts, pa.large_string()),
        quality,
        pa.array(reasons, pa.large_string()),
        pa.array(details, pa.large_string()),
        pc.binary_length(texts).cast(pa.int64()),
        pc.utf8_length(texts).cast(pa.int64()),
        repaired.lines_cut,
        repaired.masked,
        items,
    ]
    return pa.StructArray.from_arrays(columns, fields=list(_ASSESSED))


def _unwanted(found: Identified, index: int, wanted: frozenset[str]) -> str | None:
    """Why the recipe does not want the document's language, or None.

    An undecided document stays if it is in a script of a wanted language: there is no evidence against it.
    """
    language, script = found.languages[index], found.scripts[index]
    # Of a mixture ("hi-Latn+en") every language must be wanted.
    if not wanted or wanted.issuperset(language.split("+")):
        return None
    if language != UNDETERMINED_LANGUAGE:
        return f"{language}, probability {found.probabilities[index]:.2f}"
    if script == COMMON_SCRIPT or any(script in scripts_of(code) for code in wanted):
        return None
    return f"undecided, in the script {script}"
