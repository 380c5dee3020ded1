"""Plain text and Markdown: files that are documents, or that hold one per line or paragraph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from vernacular.corpus.readers.record import Record, broken, of_text
from vernacular.corpus.readers.stream import content, lines, not_utf8

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n.*?\r?\n(---|\.\.\.)[ \t]*(\r?\n|\Z)", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def read_text(file: IO[bytes], compression: str | None, split: str) -> Iterator[Record]:
    """Plain text; `split` is document, line or blank-lines. Lines (paragraphs) of white space alone are skipped."""
    if split == "document":
        yield _whole(content(file, compression))
    elif split == "line":
        for number, line in enumerate(lines(file, compression), start=1):
            if line.strip():
                yield _decoded(line, number)
    else:
        yield from _paragraphs(lines(file, compression))


def read_markdown(file: IO[bytes], compression: str | None) -> Iterator[Record]:
    """Markdown: the file is one document. YAML front matter and comments go, the marks stay."""
    raw = content(file, compression)
    record = _whole(raw)
    if record.text is not None:
        record.text = _COMMENT.sub("", _FRONT_MATTER.sub("", record.text))
    yield record


def _whole(raw: bytes) -> Record:
    try:
        return of_text(raw.decode("utf-8"), None, size=len(raw))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return broken(f"{not_utf8(error)} (line {line})", None, len(raw))


def _decoded(raw: bytes, line: int) -> Record:
    try:
        return of_text(raw.decode("utf-8"), line, size=len(raw))
    except UnicodeDecodeError as error:
        return broken(not_utf8(error), line, len(raw))


def _paragraphs(source: Iterator[bytes]) -> Iterator[Record]:
    gathered: list[bytes] = []
    begin = 0
    for number, line in enumerate(source, start=1):
        if line.strip():
            begin = begin if gathered else number
            gathered.append(line)
        elif gathered:
            yield _decoded(b"\n".join(gathered), begin)
            gathered = []
    if gathered:
        yield _decoded(b"\n".join(gathered), begin)
