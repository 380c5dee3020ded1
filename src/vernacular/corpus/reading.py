"""Source files as batches of raw records, cut into runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from vernacular.corpus.readers.archives import read_warc
from vernacular.corpus.readers.books import read_epub
from vernacular.corpus.readers.pages import read_html
from vernacular.corpus.readers.plain import read_markdown, read_text
from vernacular.corpus.readers.record import RAW_SCHEMA, Record, until_damage
from vernacular.corpus.readers.stream import reading
from vernacular.corpus.readers.tables import read_csv, read_dataset, read_jsonl, read_parquet
from vernacular.corpus.sources import SourceFile
from vernacular.foundation.errors import UserError

_ROWS_PER_BATCH = 1024
_BYTES_PER_BATCH = 8 << 20
_BYTES_PER_RUN = 32 << 20
ROWS_PER_FILE = 1 << 40


@dataclass
class Tally:
    """What was read, counted apart from what is kept, so that the report can be checked against it.

    Attributes:
        records: by source.
        bytes: of their texts as read, by source.
    """

    records: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    def add(self, source: str, records: int, size: int) -> None:
        """Count records of a source and their bytes."""
        self.records[source] += records
        self.bytes[source] += size


def read_runs(files: Sequence[SourceFile], strict: bool) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The records of some files in batches of `RAW_SCHEMA`, each with the number of the run it belongs to.

    Runs are cut by the records alone: the same files give the same runs every time.

    Raises:
        UserError: a file cannot be read, or a record is broken and `strict` holds.
    """
    run, size = 0, 0
    for batch in read_batches(files, strict):
        if size and size + batch.nbytes > _BYTES_PER_RUN:
            run, size = run + 1, 0
        size += batch.nbytes
        yield run, batch


def read_batches(files: Iterable[SourceFile], strict: bool) -> Iterator[pa.RecordBatch]:
    """As `read_runs`, without the runs."""
    gathered: list[tuple[Any, ...]] = []
    size = 0
    for row, bytes_read in (each for file in files for each in _rows(file, strict)):
        gathered.append(row)
        size += bytes_read
        if len(gathered) >= _ROWS_PER_BATCH or size >= _BYTES_PER_BATCH:
            yield _batch(gathered)
            gathered, size = [], 0
    if gathered:
        yield _batch(gathered)


def read_texts(files: Iterable[SourceFile]) -> Iterator[tuple[str, str | None]]:
    """The texts of files and the languages their sources state; broken records are passed over."""
    for file in files:
        with reading(file.shown):
            for record in _records(file):
                if record.text is not None:
                    yield record.text, file.source.language or record.language


def _rows(file: SourceFile, strict: bool) -> Iterator[tuple[tuple[Any, ...], int]]:
    with reading(file.shown):
        for position, record in enumerate(_records(file)):
            if record.problem is not None and strict:
                raise UserError(
                    record.problem, where=_place(file.shown, record.line), fix="mend it, or set strict: false"
                )
            yield _row(file, position, record), record.size


def _batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), RAW_SCHEMA, strict=True)]
    return pa.record_batch(columns, schema=RAW_SCHEMA)


def _row(file: SourceFile, position: int, record: Record) -> tuple[Any, ...]:
    place = _place(file.name, record.line)
    own_name = record.name or (file.name if record.line is None else None)
    return (
        file.number * ROWS_PER_FILE + position,
        file.source.name,
        file.name,
        record.line,
        f"{place} ({record.name})" if record.name else place,
        own_name,
        record.text,
        file.source.language or record.language,
        record.problem,
        record.size,
        record.label,
        record.group,
    )


def _place(name: str, line: int | None) -> str:
    return name if line is None else f"{name}:{line}"


def _records(file: SourceFile) -> Iterator[Record]:
    if file.format == "synthetic":
        yield from _synthetic(file)
    elif file.format == "endpoint":
        from vernacular.corpus.synthetic.asking import read_answers

        assert file.source.endpoint is not None
        yield from read_answers(file.source.endpoint)
    elif file.format == "dataset":
        yield from read_dataset(file.path, file.source)
    else:
        with file.filesystem.open(file.path, "rb") as opened:
            yield from until_damage(_read(file, opened))


def _read(file: SourceFile, opened: Any) -> Iterator[Record]:
    source, compression = file.source, file.compression
    match file.format:
        case "text":
            return read_text(opened, compression, source.split or "document")
        case "markdown":
            return read_markdown(opened, compression)
        case "html":
            return iter([read_html(opened, compression, source.html)])
        case "warc":
            return read_warc(opened, compression, source)
        case "epub":
            return read_epub(opened, source.split or "document")
        case "jsonl":
            return read_jsonl(opened, compression, source)
        case "parquet":
            return read_parquet(opened, source, file.shown)
        case "csv":
            return read_csv(opened, compression, source, ",", file.shown)
        case "tsv":
            return read_csv(opened, compression, source, "\t", file.shown)
        case _:
            raise UserError(f"the format '{file.format}' cannot be read from a file", where=file.shown)


def _synthetic(file: SourceFile) -> Iterator[Record]:
    from vernacular.corpus.synthetic.generator import generate

    assert file.source.synthetic is not None
    # The language the generator states is the answer that identification is judged by: it is not passed on.
    for number, value in enumerate(generate(file.source.synthetic).documents(), start=1):
        text = value["text"]
        size = len(text.encode("utf-8"))
        yield Record(text, number, size, name=value["provenance"], label=value["label"], group=value["group"])
