"""Source files as a Daft data source: each task reads some files and yields batches of raw records."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.engine import DataSource, DataSourceTask, RecordBatch, daft
from vernacular.corpus.readers.archives import read_warc
from vernacular.corpus.readers.books import read_epub
from vernacular.corpus.readers.pages import read_html
from vernacular.corpus.readers.plain import read_markdown, read_text
from vernacular.corpus.readers.record import RAW_SCHEMA, Record, until_damage
from vernacular.corpus.readers.stream import reading
from vernacular.corpus.readers.tables import read_csv, read_dataset, read_jsonl, read_parquet
from vernacular.corpus.sources import SourceFile, in_tasks
from vernacular.foundation.errors import UserError, VernacularError

_ROWS_PER_BATCH = 2048
_BYTES_PER_BATCH = 8 << 20
_BYTES_PER_TASK = 64 << 20
_FILES_PER_TASK = 1000
ROWS_PER_FILE = 1 << 40
_DAFT_SCHEMA = daft.Schema.from_pyarrow_schema(RAW_SCHEMA)


class Tally:
    """What was read, counted apart from the plan, so that the report can be checked against it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.records: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.error: VernacularError | OSError | None = None

    def add(self, source: str, records: int, size: int) -> None:
        """Count records of a source and their bytes."""
        with self._lock:
            self.records[source] += records
            self.bytes[source] += size


class Records(DataSource):
    """The records of all files, read while the plan runs.

    Args:
        files: what to read.
        strict: stop at the first broken record.
        tally: counts what is read; holds the error that stopped the reading, since Daft passes on only its words.
        bar: progress in bytes of the files.
    """

    def __init__(self, files: list[SourceFile], strict: bool, tally: Tally, bar: Any) -> None:
        self._files = files
        self._strict = strict
        self._tally = tally
        self._bar = bar

    @property
    def name(self) -> str:
        """For Daft's plans."""
        return "records"

    @property
    def schema(self) -> daft.Schema:
        """Of `RAW_SCHEMA`."""
        return _DAFT_SCHEMA

    async def get_tasks(self, pushdowns: Any) -> AsyncIterator[DataSourceTask]:
        """One task for a large file or for many small ones."""
        for group in in_tasks(self._files, bytes_per_task=_BYTES_PER_TASK, files_per_task=_FILES_PER_TASK):
            yield _ReadFiles(group, self._strict, self._tally, self._bar)


class _ReadFiles(DataSourceTask):
    def __init__(self, files: list[SourceFile], strict: bool, tally: Tally, bar: Any) -> None:
        self._files = files
        self._strict = strict
        self._tally = tally
        self._bar = bar

    @property
    def schema(self) -> daft.Schema:
        return _DAFT_SCHEMA

    async def read(self) -> AsyncIterator[RecordBatch]:
        try:
            for file in self._files:
                for batch in _batches(file, self._strict, self._bar):
                    self._tally.add(file.source.name, batch.num_rows, pc.sum(batch["bytes_in"]).as_py() or 0)
                    yield RecordBatch.from_arrow_record_batches([batch], RAW_SCHEMA)
        except (VernacularError, OSError) as error:
            self._tally.error = self._tally.error or error
            raise


def _batches(file: SourceFile, strict: bool, bar: Any) -> Iterator[pa.RecordBatch]:
    gathered: list[tuple[Any, ...]] = []
    size = 0
    with reading(file.shown):
        for position, record in enumerate(_records(file, bar)):
            if record.problem is not None and strict:
                raise UserError(
                    record.problem, where=_place(file.shown, record.line), fix="mend it, or set strict: false"
                )
            gathered.append(_row(file, position, record))
            size += record.size
            if len(gathered) >= _ROWS_PER_BATCH or size >= _BYTES_PER_BATCH:
                yield _batch(gathered)
                gathered, size = [], 0
    if gathered:
        yield _batch(gathered)


def _batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), RAW_SCHEMA, strict=True)]
    return pa.record_batch(columns, schema=RAW_SCHEMA)


def _row(file: SourceFile, position: int, record: Record) -> tuple[Any, ...]:
    place = _place(file.name, record.line)
    return (
        file.number * ROWS_PER_FILE + position,
        file.source.name,
        file.name,
        record.line,
        f"{place} ({record.name})" if record.name else place,
        record.text,
        file.source.language or record.language,
        record.problem,
        record.size,
        record.label,
        record.group,
    )


def _place(name: str, line: int | None) -> str:
    return name if line is None else f"{name}:{line}"


def _records(file: SourceFile, bar: Any) -> Iterator[Record]:
    if file.format == "synthetic":
        yield from _synthetic(file)
    elif file.format == "dataset":
        yield from read_dataset(file.path, file.source)
    else:
        with file.filesystem.open(file.path, "rb") as opened:
            counted = _Counted(opened, bar)
            yield from until_damage(_read(file, counted))


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


class _Counted:
    """A file whose reading moves the progress bar."""

    def __init__(self, file: IO[bytes], bar: Any) -> None:
        self._file = file
        self._bar = bar

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._bar.update(len(chunk))
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
