"""The members of a gzip file one by one: a damaged one is named, and the next one looked for."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_CHUNK_BYTES = 1 << 20
_MAGIC = b"\x1f\x8b\x08"
# So much of a member is kept to look for the next one in, should it turn out to be damaged.
_MOST_KEPT_BYTES = 64 << 20
_PROBE_BYTES = 4096


@dataclass(frozen=True)
class Piece:
    """A part of a member's content.

    Attributes:
        offset: where the member begins in the file.
        content: bytes, decompressed.
        ends: whether the member ends with them.
        problem: why it ends before its time, or None.
    """

    offset: int
    content: bytes
    ends: bool = False
    problem: str | None = None


def members(file: IO[bytes], expected: bytes) -> Iterator[Piece]:
    """The content of each member in turn, in pieces.

    Args:
        file: a gzip file, of one member or many.
        expected: what a member's content begins with; by it the member after a damaged one is known.
    """
    raw, offset = b"", 0
    while raw or (raw := file.read(_CHUNK_BYTES)):
        if not raw.startswith(_MAGIC[: len(raw)]):
            yield Piece(offset, b"", ends=True, problem="what stands here is no gzip")
            raw, offset = _next(file, raw, offset, expected)
            continue
        kept, decompressor = bytearray(raw), zlib.decompressobj(31)
        try:
            while not decompressor.eof:
                waiting = raw or file.read(_CHUNK_BYTES)
                if not raw and len(kept) < _MOST_KEPT_BYTES:
                    kept += waiting
                if not waiting:
                    yield Piece(offset, b"", ends=True, problem="the gzip member is cut short")
                    return
                content = decompressor.decompress(waiting, _CHUNK_BYTES)
                raw = decompressor.unconsumed_tail
                yield Piece(offset, content, ends=decompressor.eof)
        except zlib.error as error:
            yield Piece(offset, b"", ends=True, problem=f"the gzip member is damaged: {error}")
            raw, offset = _next(file, bytes(kept[1:]), offset + 1, expected)
            continue
        raw = decompressor.unused_data
        offset = file.tell() - len(raw)


def _next(file: IO[bytes], raw: bytes, offset: int, expected: bytes) -> tuple[bytes, int]:
    """The bytes from the next member on, and where it begins; no bytes where there is none."""
    while True:
        at = raw.find(_MAGIC)
        while at >= 0:
            if _begins_member(raw[at:], expected):
                return raw[at:], offset + at
            at = raw.find(_MAGIC, at + 1)
        # A member may begin at the very end of what has been read.
        tail = min(len(raw), _PROBE_BYTES)
        more = file.read(_CHUNK_BYTES)
        if not more:
            return b"", offset + len(raw)
        raw, offset = raw[len(raw) - tail :] + more, offset + len(raw) - tail


def _begins_member(raw: bytes, expected: bytes) -> bool:
    try:
        content = zlib.decompressobj(31).decompress(raw[:_PROBE_BYTES], len(expected))
    except zlib.error:
        return False
    return bool(content) and expected.startswith(content)
