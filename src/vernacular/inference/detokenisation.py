"""From tokens back to text, piece by piece, never cutting a character nor a grapheme cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import regex

_CLUSTER = regex.compile(r"\X")
_BROKEN = "\ufffd"


class Decodes(Protocol):
    """What is needed of a tokenizer here."""

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        """Text of the tokens."""
        ...


class Detokeniser:
    """Text of a growing list of tokens. The pieces, `flush` included, add up to the decoding of the whole list.

    A byte-level token may end inside a character, which then decodes to U+FFFD; such a tail is held back until the
    character is complete. Only the tokens since the last complete character are decoded again, with the settled ones
    just before them for company, since some tokenizers write a token otherwise at the start of a text.
    """

    def __init__(self, tokenizer: Decodes) -> None:
        self._tokenizer = tokenizer
        self._settled: list[int] = []
        self._open: list[int] = []

    def push(self, token: int) -> str:
        """Take one more token; return the text that is now settled and was not before."""
        self._open.append(token)
        text = self._new_text()
        if not text or text.endswith(_BROKEN):
            return ""
        self._settled, self._open = self._open, []
        return text

    def flush(self) -> str:
        """The text of what is still held back, broken characters as U+FFFD."""
        text = self._new_text()
        self._settled, self._open = self._open, []
        return text

    def _new_text(self) -> str:
        before = self._tokenizer.decode(self._settled) if self._settled else ""
        return self._tokenizer.decode(self._settled + self._open)[len(before) :]


class Clusters:
    """Passes text on in whole grapheme clusters: the last one is held back until the next one begins.

    Whether a cluster ends before a character depends on nothing after that character (UAX 29), so what was passed on
    never has to be taken back.
    """

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """Take more text; return the clusters that are now complete."""
        self._held += text
        last = 0
        for match in _CLUSTER.finditer(self._held):
            last = match.start()
        complete, self._held = self._held[:last], self._held[last:]
        return complete

    def flush(self) -> str:
        """The last cluster."""
        held, self._held = self._held, ""
        return held


def find_stop(text: str, stops: Sequence[str], start: int) -> int | None:
    """Where in `text` the earliest stop string that ends after `start` begins; None if there is none."""
    found = [text.find(stop, max(0, start - len(stop) + 1)) for stop in stops]
    return min((place for place in found if place >= 0), default=None)


def could_be_stop(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that is the beginning of a stop string: not to be shown yet."""
    longest = min(max(map(len, stops), default=1) - 1, len(text))
    for length in range(longest, 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
