"""What every reader yields: a record, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vernacular.corpus.readers.stream import damage


@dataclass(slots=True)
class Record:
    """One document as it stands in its source, or a broken record.

    Attributes:
        text: the text, or None if the record is broken.
        line: line (or row, from 1) in its file; None if the file is the document.
        size: bytes of its text in UTF-8 as read (of a broken record: bytes of the record).
        language: the language the record states, as written there.
        problem: what is wrong with a broken record.
        name: the record's own name for itself (`id_field`).
        label: what kind of document a labelled source says it is.
        group: key that a labelled source gives to an original and its copies.
    """

    text: str | None
    line: int | None
    size: int
    language: str | None = None
    problem: str | None = None
    name: str | None = None
    label: str | None = None
    group: str | None = None


def broken(problem: str, line: int | None, size: int) -> Record:
    """A record that cannot be read."""
    return Record(text=None, line=line, size=size, problem=problem)


def of_text(text: str, line: int | None, *, size: int | None = None, language: str | None = None) -> Record:
    """A record of this text; one that cannot be written as UTF-8 (a lone surrogate) is broken."""
    try:
        length = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        return broken(f"a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}", line, len(text))
    return Record(text=text, line=line, size=length if size is None else size, language=language)


def until_damage(records: Iterator[Record]) -> Iterator[Record]:
    """The records up to where their archive is damaged, and a broken one that says so."""
    line = 0
    try:
        for record in records:
            line = record.line or line
            yield record
    except damage() as error:
        yield lost(error, line)


def lost(error: Exception, line: int) -> Record:
    """The broken record that stands for the rest of a damaged archive, behind its last whole line."""
    return broken(f"the archive is damaged or cut short here, and the rest of it is lost: {error}", line + 1, 0)


def of_fields(
    value: Any, text: str | int, language: str | int | None, name: str | int | None, line: int, size: int
) -> Record:
    """A record of a mapping with its text under the key `text`; broken if it is not there or no string."""
    if not isinstance(value, dict):
        return broken(f"expected an object, found {type(value).__name__}", line, size)
    if text not in value:
        return broken(f"no field '{text}'; its fields: {', '.join(map(str, value)) or 'none'}", line, size)
    content = value[text]
    if not isinstance(content, str):
        return broken(f"the field '{text}' is {type(content).__name__}, not text", line, size)
    record = of_text(content, line)
    if language is not None and value.get(language) is not None:
        record.language = str(value[language])
    if name is not None and value.get(name) is not None:
        record.name = str(value[name])
    return record


RAW_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),  # file's position among all files × 2^40 + record's position in its file
        pa.field("source", pa.large_string()),
        pa.field("file", pa.large_string()),
        pa.field("line", pa.int64()),
        pa.field("provenance", pa.large_string()),  # the place: file, line and the record's own name
        pa.field("name", pa.large_string()),  # what the record calls itself, or the file that it is all of
        pa.field("text", pa.large_string()),
        pa.field("stated", pa.large_string()),
        pa.field("problem", pa.large_string()),
        pa.field("bytes_in", pa.int64()),
        pa.field("label", pa.large_string()),
        pa.field("group", pa.large_string()),
    ]
)
