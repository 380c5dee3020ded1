"""WARC and WET archives: records found one by one, so that a damaged one costs itself and no other.

Records are cut here, by their headers and lengths; what is in them is read by FastWARC. A record is broken where its
gzip member is damaged or its Content-Length does not fit what is there; the next one is then looked for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from vernacular.corpus.configuration import Source
from vernacular.corpus.readers.members import members
from vernacular.corpus.readers.pages import PAGES, text_of_page
from vernacular.corpus.readers.record import Record, broken, of_text
from vernacular.corpus.readers.stream import chunks

_LONGEST_HEADER_BYTES = 1 << 16
_LONGEST_RECORD_BYTES = 64 << 20
_MARK = b"WARC/1."
_EMPTY_LINE = b"\r\n\r\n"
_NEXT = re.compile(rb"\nWARC/1\.[01]\r\n")
_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_LONGEST_MARK_BYTES = 16


@dataclass(frozen=True)
class _Cut:
    """One record's bytes, or what is wrong with it, and where it begins in the file."""

    content: bytes
    offset: int
    problem: str | None = None


def read_warc(file: IO[bytes], compression: str | None, source: Source) -> Iterator[Record]:
    """The pages of a WARC (responses with status 200, their main text) and the texts of a WET.

    A record's line is its number in the archive, from 1, its name its address and date. Requests, metadata and
    other responses are passed over. With `language_field` that header's value is taken for the text's language.
    """
    for number, cut in enumerate(_cuts(file, compression), start=1):
        if cut.problem is not None:
            yield broken(f"{cut.problem} (record {number}, byte {cut.offset:,})", number, len(cut.content))
        elif (record := _record(cut.content, number, source)) is not None:
            yield record


def _record(content: bytes, number: int, source: Source) -> Record | None:
    """What is in one record; None where it is no page and no text."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    wanted = WarcRecordType.response | WarcRecordType.conversion | WarcRecordType.resource
    try:
        for found in ArchiveIterator(io.BytesIO(content), record_types=wanted, parse_http=True, auto_decode="all"):
            record = _text(found, found.reader.read(), number, source)
            if record is not None:
                _name(record, found, source)
            return record
    except (ValueError, OSError) as error:
        return broken(f"the response cannot be decoded: {error}", number, len(content))
    return None


def _text(found: Any, content: bytes, number: int, source: Source) -> Record | None:
    kind = (found.headers.get("Content-Type") or "").split(";")[0].strip().lower()
    charset = None
    if kind == "application/http":
        if found.http_headers is None or found.http_headers.status_code is None:
            return broken("the response has no valid HTTP header", number, len(content))
        if found.http_headers.status_code != 200:
            return None
        kind, charset = (found.http_content_type or "").lower(), found.http_charset
    if kind in PAGES:
        return text_of_page(content, number, source.html, charset=charset)
    if kind != "text/plain":
        return None
    try:
        return of_text(content.decode(charset or "utf-8"), number, size=len(content))
    except (UnicodeDecodeError, LookupError) as error:
        return broken(f"not valid {charset or 'UTF-8'}: {error}", number, len(content))


def _name(record: Record, found: Any, source: Source) -> None:
    """Note the page's address and date, and the language that a header states."""
    named = (found.headers.get("WARC-Target-URI"), found.headers.get("WARC-Date"))
    record.name = " ".join(value for value in named if value) or None
    if source.language_field is not None and record.problem is None:
        stated = found.headers.get(str(source.language_field))
        # Of several languages, which Common Crawl lists by their share, the first.
        record.language = stated.split(",")[0] if stated else None


def _cuts(file: IO[bytes], compression: str | None) -> Iterator[_Cut]:
    """The records of an archive, one after another."""
    if compression != ".gz":
        cutter = _Cutter(0, advances=True)
        for chunk in chunks(file, compression):
            cutter.buffer += chunk
            yield from cutter.cuts(last=False)
        yield from cutter.cuts(last=True)
        return
    cutter = _Cutter(0, advances=False)
    for piece in members(file, _MARK):
        cutter.offset = piece.offset
        cutter.buffer += piece.content
        if piece.problem is not None:
            yield _Cut(bytes(cutter.buffer), piece.offset, piece.problem)
            cutter = _Cutter(piece.offset, advances=False)
        else:
            yield from cutter.cuts(last=piece.ends)
            if piece.ends:
                cutter = _Cutter(piece.offset, advances=False)


@dataclass
class _Cutter:
    """Cuts a stream of bytes into records.

    Attributes:
        offset: where the buffer's first byte stands in the file; of a gzip member, where the member begins.
        advances: whether the offset moves with the buffer.
        buffer: what is not yet cut.
        skipping: whether the next record is being looked for.
    """

    offset: int
    advances: bool
    buffer: bytearray = field(default_factory=bytearray)
    skipping: bool = False

    def cuts(self, *, last: bool) -> Iterator[_Cut]:
        """The records that are whole; with `last`, what is left must be whole too."""
        while self.buffer:
            if self.skipping and not self._skip(last):
                return
            if self.buffer[:2] == b"\r\n":
                self._drop(2)
                continue
            size, problem = self._first(last)
            if problem is not None:
                yield _Cut(bytes(self.buffer[: size or len(self.buffer)]), self.offset, problem)
                self.skipping = True
            elif size:
                yield _Cut(bytes(self.buffer[:size]), self.offset)
                self._drop(size)
            else:
                return

    def _first(self, last: bool) -> tuple[int, str | None]:
        """Bytes of the first record, 0 where more are needed; or what is wrong with it."""
        if not self.buffer.startswith(_MARK[: len(self.buffer)]):
            return 0, "what stands here is no WARC record"
        end = self.buffer.find(_EMPTY_LINE, 0, _LONGEST_HEADER_BYTES)
        if end < 0:
            ended = last or len(self.buffer) >= _LONGEST_HEADER_BYTES
            return 0, "the record's header has no end" if ended else None
        length = _LENGTH.search(self.buffer, 0, end + 2)
        if length is None:
            return end, "the record has no valid Content-Length"
        size = int(length[1])
        if size > _LONGEST_RECORD_BYTES:
            return end, f"a record of {size:,} bytes, more than the {_LONGEST_RECORD_BYTES:,} that are read"
        end += len(_EMPTY_LINE)
        if len(self.buffer) < end + size + len(_EMPTY_LINE) and not last:
            return 0, None
        if len(self.buffer) < end + size:
            return 0, f"Content-Length says {size:,} bytes, {len(self.buffer) - end:,} are there"
        after = bytes(self.buffer[end + size : end + size + len(_EMPTY_LINE)])
        if not _EMPTY_LINE.startswith(after):
            return end + size, f"Content-Length says {size:,} bytes, but the record does not end there"
        return end + size, None

    def _skip(self, last: bool) -> bool:
        """Drop what stands before the next record's header, and whether there is one."""
        found = _NEXT.search(self.buffer, 1)
        if found is not None:
            self._drop(found.start() + 1)
            self.skipping = False
            return True
        self._drop(len(self.buffer) if last else max(len(self.buffer) - _LONGEST_MARK_BYTES, 0))
        return False

    def _drop(self, size: int) -> None:
        del self.buffer[:size]
        self.offset += size if self.advances else 0
