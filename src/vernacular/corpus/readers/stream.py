"""Bytes and lines of a file, decompressed on the way; a damaged archive is never taken for a whole one."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from vernacular.foundation.errors import MachineError, UserError

_CHUNK_BYTES = 1 << 22
_LONGEST_LINE_BYTES = 1 << 30
_UTF8_MARK = b"\xef\xbb\xbf"

COMPRESSIONS = (".gz", ".zst")


def compression_of(path: str) -> str | None:
    """The ending ".gz" or ".zst" if the name has one."""
    return next((ending for ending in COMPRESSIONS if path.lower().endswith(ending)), None)


def damage() -> tuple[type[Exception], ...]:
    """What is raised where an archive is damaged or cut short."""
    import zstandard

    return (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what goes wrong while reading `path` into errors that name it."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError("file not found", where=path, fix="check the path") from error
    except PermissionError as error:
        raise MachineError("permission denied", where=path, fix="make the file readable") from error


def chunks(file: IO[bytes], compression: str | None) -> Iterator[bytes]:
    """The file's content in pieces, decompressed."""
    if compression == ".zst":
        yield from _zstandard_chunks(file)
        return
    stream: Any = gzip.GzipFile(fileobj=file) if compression == ".gz" else file
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def blocks(file: IO[bytes], compression: str | None) -> Iterator[memoryview]:
    """The file's content in pieces of whole lines, without a UTF-8 byte order mark.

    Raises:
        UserError: a line is longer than a gibibyte.
    """
    rest = b""
    first = True
    for chunk in chunks(file, compression):
        if first:
            chunk = chunk.removeprefix(_UTF8_MARK)
            first = False
        rest = rest + chunk if rest else chunk
        end = len(rest) - len(chunk) + chunk.rfind(b"\n") + 1
        if end > len(rest) - len(chunk):
            yield memoryview(rest)[:end]
            rest = rest[end:]
        if len(rest) > _LONGEST_LINE_BYTES:
            raise UserError("a line is longer than 1 GiB", fix="is this a file of lines? set `format`")
    if rest:
        yield memoryview(rest)


def lines(file: IO[bytes], compression: str | None) -> Iterator[bytes]:
    r"""The file's lines without their ends (\n or \r\n) and without a UTF-8 byte order mark.

    Raises:
        UserError: a line is longer than a gibibyte.
    """
    for block in blocks(file, compression):
        for line in bytes(block).removesuffix(b"\n").split(b"\n"):
            yield line.removesuffix(b"\r")


def content(file: IO[bytes], compression: str | None) -> bytes:
    """The whole file without a UTF-8 byte order mark."""
    return b"".join(chunks(file, compression)).removeprefix(_UTF8_MARK)


def _zstandard_chunks(file: IO[bytes]) -> Iterator[bytes]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor().decompressobj(read_across_frames=False)
    begun = False
    while raw := file.read(_CHUNK_BYTES):
        while raw:
            begun = True
            if plain := decompressor.decompress(raw):
                yield plain
            raw = b""
            if decompressor.eof:
                raw = decompressor.unused_data
                decompressor = zstandard.ZstdDecompressor().decompressobj(read_across_frames=False)
                begun = bool(raw)
    if begun:
        # The library returns what it has of an unfinished frame without a word.
        raise EOFError("the last Zstandard frame has no end")


def not_utf8(error: UnicodeDecodeError) -> str:
    """What to say of bytes that are not UTF-8."""
    if error.object[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "this is UTF-16, not UTF-8: convert it, e.g. with iconv -f UTF-16 -t UTF-8"
    return f"not valid UTF-8 at byte {error.start}"
