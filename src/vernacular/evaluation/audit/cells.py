"""What a table's cell says: a number as it was printed, in bold or not, and a remark beside it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

_NUMBER = re.compile(r"^([-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)\s?%?(?:\s*\(([^()]*)\))?$")
_BOLD = re.compile(r"\*\*|__|</?(?:b|strong)>", re.IGNORECASE)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_SHOTS = re.compile(r"\b(\d{1,3})[- ]?shots?\b", re.IGNORECASE)
_LONGEST = 80


class Number(NamedTuple):
    """A printed number.

    Attributes:
        value: exactly as printed.
        bold: whether it stands in bold.
        note: the words in brackets beside it, or "".
    """

    value: Decimal
    bold: bool
    note: str

    @property
    def half_unit(self) -> Decimal:
        """Half a unit of the last printed digit: how far the number may lie from what it was rounded from."""
        return Decimal(5).scaleb(int(self.value.as_tuple().exponent) - 1)

    @property
    def shots(self) -> int | None:
        """Examples that the note speaks of: 10 for "(10-shot)"."""
        return shots(self.note)


def read_number(cell: str) -> Number | None:
    """The number a cell holds, or None where it holds none (`-`, `TBD`, words)."""
    if len(cell) > _LONGEST:
        return None
    match = _NUMBER.match(plain(cell))
    if match is None:
        return None
    printed = match[1].replace(",", "").replace("\u2212", "-")
    return Number(Decimal(printed), _BOLD.search(cell) is not None, match[2] or "")


def plain(cell: str) -> str:
    """A cell's words: links by their text, no bold, no code marks."""
    return _BOLD.sub("", _LINK.sub(r"\1", cell[:4096])).replace("`", "").strip(" *")


def shots(text: str) -> int | None:
    """The number of examples in "(5-shot)"; 0 for "zero-shot"; None where nothing is said."""
    if match := _SHOTS.search(text):
        return int(match[1])
    return 0 if "zero-shot" in text.lower() else None
