"""A set of characters by script or by name, and what a stretch of UTF-8 says about them, half characters included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import regex
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError

_ALL = 0x110000
_SURROGATES = range(0xD800, 0xE000)


class Characters:
    """Characters of some scripts (Unicode's property Script, not its extensions) and some named one by one.

    Args:
        scripts: names or ISO 15924 codes: `Devanagari`, `Deva`.
        characters: further characters.
        where: the setting's name, for errors.
    """

    def __init__(self, scripts: Sequence[str], characters: str, *, where: str) -> None:
        self._points: NDArray[np.bool_] = np.zeros(_ALL, dtype=bool)
        for script in scripts:
            self._points[_points_of(script, where)] = True
        self._points[[ord(character) for character in characters]] = True

    @cached_property
    def _prefixes(self) -> frozenset[bytes]:
        """The bytes that some of the characters begin with, two at least."""
        encoded = (chr(point).encode("utf-8") for point in np.flatnonzero(self._points).tolist())
        return frozenset(content[:stop] for content in encoded for stop in range(2, len(content)))

    def shown_by(self, content: bytes) -> bool:
        """Whether UTF-8 text that holds `content` has one of these characters, or one that begins as one of them.

        Args:
            content: whole characters, or the beginning of a single one.
        """
        text = whole_text(content)
        return content in self._prefixes if text is None else any(self._points[ord(letter)] for letter in text)

    def shown_by_any(self, contents: Iterable[bytes]) -> list[str]:
        """Ranges of characters (`U+0900–U+097F`), such that a text without them holds none of `contents`.

        They are these characters, and those that begin with the same bytes as a `content` that is half a character.
        """
        points = self._points.copy()
        for content in contents:
            if whole_text(content) is None:
                points[_points_beginning(content)] = True
        return _ranges(points)


def whole_text(content: bytes) -> str | None:
    """UTF-8 as text; None where it is no whole characters."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def begins_a_character(content: bytes) -> bool:
    """Whether `content` is the beginning of one character, and less than the whole."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start == 0 and error.reason == "unexpected end of data"
    return False


def _points_of(script: str, where: str) -> NDArray[np.intp]:
    if not regex.fullmatch(r"[A-Za-z_]+", script):
        raise _unknown(script, where)
    try:
        pattern = regex.compile(rf"\p{{Script={script}}}")
    except regex.error as error:
        raise _unknown(script, where) from error
    everything = "".join(chr(point) for point in range(_ALL) if point not in _SURROGATES)
    return np.array([ord(character) for character in pattern.findall(everything)], dtype=np.intp)


def _unknown(script: str, where: str) -> UserError:
    return UserError(
        f"Unicode knows no script '{script}'",
        where=where,
        fix="use its ISO 15924 code or Unicode's name for it, for example Deva or Devanagari",
    )


def _points_beginning(prefix: bytes) -> slice:
    """The code points whose UTF-8 begins with `prefix`, two bytes at least, less than a whole character."""
    length = 4 if prefix[0] >= 0xF0 else 3
    point = prefix[0] & (0x07 if length == 4 else 0x0F)
    for byte in prefix[1:]:
        point = point << 6 | byte & 0x3F
    free = 6 * (length - len(prefix))
    return slice(point << free, (point + 1) << free)


def _ranges(points: NDArray[np.bool_]) -> list[str]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], points, [False]]).astype(np.int8)))
    pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [f"U+{low:04X}" if low == high - 1 else f"U+{low:04X}–U+{high - 1:04X}" for low, high in pairs]
