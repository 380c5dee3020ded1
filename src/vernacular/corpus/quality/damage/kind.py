"""What kinds of damage share: how much of a text they spoil, and where.

A kind takes a text, its language, the share of the text to spoil, and a random source; it returns the damaged text, or
the same one where it cannot harm it. Every kind works in every script.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from vernacular.corpus.languages import language_data

_WORD = re.compile(r"\S+")
_MOST_AT_ONCE = 12  # words
_SENTENCE_END = r"(?<=[.!?।॥。！？؟۔])\s+"

Spoil = Callable[[str, str, float, Random], str]


@dataclass(frozen=True)
class Kind:
    """One kind of damage.

    Attributes:
        name: of its function.
        family: kinds that leave like traces.
        spoil: (text, language, share, random) → the damaged text.
    """

    name: str
    family: str
    spoil: Spoil


_REGISTERED: list[Kind] = []


def kind(family: str) -> Callable[[Spoil], Spoil]:
    """Register a function as a kind of damage."""

    def register(spoil: Spoil) -> Spoil:
        _REGISTERED.append(Kind(spoil.__name__, family, spoil))
        return spoil

    return register


def registered() -> tuple[Kind, ...]:
    """The kinds of all modules imported so far."""
    return tuple(_REGISTERED)


def words(text: str, share: float, random: Random, change: Callable[[str], str]) -> str:
    """`text` with about `share` of its words changed, in stretches, as damage comes."""
    left, spoilt = 0, False

    def perhaps(match: re.Match[str]) -> str:
        nonlocal left, spoilt
        if left <= 0:
            spoilt = random.random() < share
            left = random.randint(1, _MOST_AT_ONCE)
        left -= 1
        return change(match[0]) if spoilt else match[0]

    return _WORD.sub(perhaps, text)


def characters(
    text: str, share: float, random: Random, change: Callable[[str], str], only: Callable[[str], bool]
) -> str:
    """`text` with `share` of the characters that `only` chooses changed."""
    return "".join(change(one) if only(one) and random.random() < share else one for one in text)


def lines(text: str, share: float, random: Random, change: Callable[[str], str]) -> str:
    """`text` with `share` of its lines changed."""
    return "\n".join(change(line) if line and random.random() < share else line for line in text.split("\n"))


def sentences(text: str) -> list[str]:
    """The sentences of a text, cut simply."""
    return [part for part in re.split(_SENTENCE_END + r"|\n+", text) if part.strip()]


def alphabet(text: str) -> list[str]:
    """The text's own letters, so that noise is in its script."""
    return sorted({one for one in text if one.isalpha()}) or ["x"]


def inserted(text: str, share: float, random: Random, make: Callable[[], str]) -> str:
    """`text` with `share` of its lines and sentences replaced."""
    parts = re.split(rf"(\n+|{_SENTENCE_END})", text)
    return "".join(
        make() if index % 2 == 0 and part and random.random() < share else part for index, part in enumerate(parts)
    )


def stock(language: str, kind: str) -> Sequence[str]:
    """Phrases of menus ("boilerplate") or advertising ("spam") in the language; empty where we have none."""
    data = language_data()
    return getattr(data[language], kind) if language in data else ()
