"""Source files as batches of raw records, cut into runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.readers.archives import read_warc
from vernacular.corpus.readers.books import read_epub
from vernacular.corpus.readers.json_lines import Lines, read_json_lines
from vernacular.corpus.readers.pages import read_html
from vernacular.corpus.readers.plain import read_markdown, read_text
from vernacular.corpus.readers.record import RAW_SCHEMA, Record, lost, until_damage
from vernacular.corpus.readers.stream import damage, reading
from vernacular.corpus.readers.tables import read_csv, read_dataset, read_parquet
from vernacular.corpus.sources import SourceFile
from vernacular.foundation.errors import UserError

_ROWS_PER_BATCH = 1024
_BYTES_PER_BATCH = 2 << 20
_BYTES_PER_RUN = 16 << 20
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
    gathered: list[pa.RecordBatch] = []
    rows, size = 0, 0
    for batch in (batch for file in files for batch in _pieces(file, strict)):
        if gathered and (rows + batch.num_rows > _ROWS_PER_BATCH or size + batch.nbytes > _BYTES_PER_BATCH):
            yield _joined(gathered)
            gathered, rows, size = [], 0, 0
        gathered.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
    if gathered:
        yield _joined(gathered)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def read_texts(files: Iterable[SourceFile]) -> Iterator[tuple[str, str | None]]:
    """The texts of files and the languages their sources state; broken records are passed over."""
    for file in files:
        with reading(file.shown):
            for record in _records(file):
                if record.text is not None:
                    yield record.text, file.source.language or record.language


def _pieces(file: SourceFile, strict: bool) -> Iterator[pa.RecordBatch]:
    """The records of a file, a batch's worth at once at most."""
    with reading(file.shown):
        if file.format == "jsonl":
            yield from (_batch_of_lines(lines, file, strict) for lines in _lines(file))
            return
        gathered: list[tuple[Any, ...]] = []
        size = 0
        for position, record in enumerate(_records(file)):
            gathered.append(_row(file, position, record, strict))
            size += record.size
            if len(gathered) >= _ROWS_PER_BATCH or size >= _BYTES_PER_BATCH:
                yield _batch(gathered)
                gathered, size = [], 0
        if gathered:
            yield _batch(gathered)


def _lines(file: SourceFile) -> Iterator[Lines]:
    """The lines of a file, up to where its archive is damaged."""
    end = 0, 0
    with file.filesystem.open(file.path, "rb") as opened:
        try:
            for lines in read_json_lines(opened, file.compression, file.source, _ROWS_PER_BATCH):
                end = lines.end
                yield lines
        except damage() as error:
            yield Lines.of_one(lost(error, end[1]), end[0])


def _batch_of_lines(lines: Lines, file: SourceFile, strict: bool) -> pa.RecordBatch:
    count = len(lines.positions)
    nothing = pa.nulls(count, pa.large_string())
    places = _concatenated(f"{file.name}:", pa.array(lines.numbers).cast(pa.large_string()))
    named = _concatenated(places, " (", lines.names, ")")
    language = file.source.language
    columns = {
        "row": pa.array(lines.positions + file.number * ROWS_PER_FILE),
        "source": pa.repeat(pa.scalar(file.source.name, pa.large_string()), count),
        "file": pa.repeat(pa.scalar(file.name, pa.large_string()), count),
        "line": pa.array(lines.numbers),
        "provenance": pc.coalesce(named, places),
        "name": lines.names,
        "text": lines.texts,
        "stated": pa.repeat(pa.scalar(language, pa.large_string()), count) if language else lines.languages,
        "problem": nothing,
        "bytes_in": pc.binary_length(lines.texts),
        "label": nothing,
        "group": nothing,
    }
    batch = pa.record_batch(columns, schema=RAW_SCHEMA)
    if not lines.others:
        return batch
    others = _batch([_row(file, position, record, strict) for position, record in lines.others])
    both = pa.concat_batches([batch, others])
    return both.take(pc.sort_indices(both["row"]))


def _batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), RAW_SCHEMA, strict=True)]
    return pa.record_batch(columns, schema=RAW_SCHEMA)


def _concatenated(*pieces: pa.Array | str) -> pa.Array:
    """Strings of all pieces of a row, one behind another; null where one of them is."""
    given = (pa.scalar(piece, pa.large_string()) if isinstance(piece, str) else piece for piece in pieces)
    return pc.binary_join_element_wise(*given, pa.scalar("", pa.large_string()))


def _row(file: SourceFile, position: int, record: Record, strict: bool) -> tuple[Any, ...]:
    if record.problem is not None and strict:
        raise UserError(record.problem, where=_place(file.shown, record.line), fix="mend it, or set strict: false")
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
            blocks = read_json_lines(opened, compression, source, _ROWS_PER_BATCH)
            return (record for lines in blocks for record in lines.records())
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
