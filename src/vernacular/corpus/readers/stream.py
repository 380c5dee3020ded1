"""Bytes and lines of a file, decompressed on the way; a damaged archive is never taken for a whole one."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from vernacular.foundation.errors import MachineError, UserError

_CHUNK_BYTES = 1 << 22
_PIECE_BYTES = 1 << 16  # of a block, searched for the end of a line at once
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
    stream = _decompressed(file, compression)
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def blocks(file: IO[bytes], compression: str | None) -> Iterator[memoryview]:
    """The file's content in pieces of whole lines, without a UTF-8 byte order mark.

    Each is overwritten by the next: all are read into the same memory, which stays in the processor's reach.

    Raises:
        UserError: a line is longer than a gibibyte.
    """
    stream = _decompressed(file, compression)
    room = np.empty(_CHUNK_BYTES, dtype=np.uint8).data
    held = searched = 0
    first = True
    while size := stream.readinto(room[held:]):
        held += size
        if first and held < len(_UTF8_MARK):
            continue
        begin = len(_UTF8_MARK) if first and room[: len(_UTF8_MARK)] == _UTF8_MARK else 0
        first = False
        end = _end_of_lines(room, searched, held)
        if end > begin:
            yield room[begin:end]
        rest = bytes(room[max(begin, end) : held])
        held = searched = len(rest)
        if held > _LONGEST_LINE_BYTES:
            raise UserError("a line is longer than 1 GiB", fix="is this a file of lines? set `format`")
        if held == len(room):
            room = np.empty(2 * held, dtype=np.uint8).data
        room[:held] = rest
    if held:
        yield room[:held]


def _end_of_lines(room: memoryview, begin: int, end: int) -> int:
    """Where the last line that ends between `begin` and `end` does; 0 where none does."""
    while begin < end:
        piece = max(begin, end - _PIECE_BYTES)
        if (found := bytes(room[piece:end]).rfind(b"\n")) >= 0:
            return piece + found + 1
        end = piece
    return 0


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


def _decompressed(file: IO[bytes], compression: str | None) -> Any:
    """The file's content as a stream of bytes."""
    if compression == ".gz":
        return gzip.GzipFile(fileobj=file)
    return _ZstandardStream(file) if compression == ".zst" else file


class _ZstandardStream(io.RawIOBase):
    """What a file of Zstandard frames holds."""

    def __init__(self, file: IO[bytes]) -> None:
        self._chunks = _zstandard_chunks(file)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, room: Any) -> int:
        """Read as much as is at hand, so that what stands before damage comes before its error; 0 at the end."""
        if not self._left:
            self._left = memoryview(next(self._chunks, b""))
        size = min(len(room), len(self._left))
        room[:size], self._left = self._left[:size], self._left[size:]
        return size


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
