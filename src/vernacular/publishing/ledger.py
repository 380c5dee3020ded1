"""Numbers that know where they come from, and a ledger of those that were printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

_MARK = re.compile("\ue000(\\d+)\ue001")


class Sourced:
    """A JSON value and the place it stands: `records/evaluation/scores.json#/scores/0/value`.

    In a template its members are reached as attributes or items, and are `Sourced` too; null is None.
    """

    __slots__ = ("_source", "_value")

    def __init__(self, value: Any, source: str) -> None:
        self._value = value
        self._source = source

    def __getattr__(self, key: str) -> Any:
        if isinstance(self._value, dict) and key in self._value:
            return self[key]
        raise AttributeError(f"{self._source} has no '{key}'")

    def __getitem__(self, key: str | int) -> Any:
        child = self._value[key]
        separator = "/" if "#" in self._source else "#/"
        return None if child is None else Sourced(child, f"{self._source}{separator}{key}")

    def __iter__(self) -> Iterator[Any]:
        keys = self._value if isinstance(self._value, dict) else range(len(self._value))
        return iter([key if isinstance(self._value, dict) else self[key] for key in keys])

    def __contains__(self, key: object) -> bool:
        return key in self._value

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return bool(self._value == plain(other))

    def __lt__(self, other: object) -> bool:
        return bool(self._value < plain(other))

    def __gt__(self, other: object) -> bool:
        return bool(self._value > plain(other))

    def __hash__(self) -> int:
        return hash(self._source)

    def __repr__(self) -> str:
        return f"Sourced({self._value!r}, {self._source!r})"


def plain(value: Any) -> Any:
    """The bare JSON value."""
    return value._value if isinstance(value, Sourced) else value


def source_of(value: Sourced) -> str:
    """Where a value stands."""
    return value._source


@dataclass(frozen=True)
class Entry:
    """A number on the card.

    Attributes:
        line: of README.md, from 1.
        printed: as it stands there.
        value: as the record has it.
        source: file of the release, and the place within it.
    """

    line: int
    printed: str
    value: float | int
    source: str


class Ledger:
    """Notes every number a template prints. A number is first a mark, so that its line is known afterwards."""

    def __init__(self) -> None:
        self._noted: list[tuple[str, Sourced]] = []

    def note(self, number: Sourced, printed: str) -> str:
        """A mark that `settle` turns into `printed`."""
        self._noted.append((printed, number))
        return f"\ue000{len(self._noted) - 1}\ue001"

    def settle(self, text: str) -> tuple[str, list[Entry]]:
        """The text with its marks turned into numbers, and what was printed where."""
        entries: list[Entry] = []
        lines = []
        for number, line in enumerate(text.split("\n"), start=1):
            for mark in _MARK.finditer(line):
                printed, sourced = self._noted[int(mark[1])]
                entries.append(Entry(number, printed, plain(sourced), source_of(sourced)))
            lines.append(_MARK.sub(lambda mark: self._noted[int(mark[1])][0], line))
        return "\n".join(lines), entries


def as_json(entries: list[Entry]) -> list[dict[str, Any]]:
    """Entries as JSON values."""
    return [asdict(entry) for entry in entries]
