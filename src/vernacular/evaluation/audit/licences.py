"""Licence statements that contradict each other, or that state nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from vernacular.evaluation.audit.cells import plain
from vernacular.evaluation.audit.finding import Evidence, Finding
from vernacular.evaluation.benchmarks import data, key

_LONGEST = 2000
_MOST_WORDS = 6


@functools.cache
def _spellings() -> dict[str, str]:
    known = data("licences.yaml")["known"]
    return {key(spelling): name for name, spellings in known.items() for spelling in (name, *spellings)}


@functools.cache
def _words(kind: str) -> frozenset[str]:
    return frozenset(key(word) for word in data("licences.yaml")[kind])


def check_licences(evidence: Evidence) -> Iterator[Finding]:
    """Compare every line that states the licence with the front matter and with each other."""
    first: tuple[int, str] | None = None
    undecided: int | None = None
    for line, text in _statements(evidence):
        if key(text) in _words("undecided"):
            undecided = line
        for licence in _named(text):
            if first is None:
                first = (line, licence)
            elif first[1] != licence:
                message = f"the licence is {licence} here, but {first[1]} at line {first[0]}"
                yield evidence.finding("licence", line, message)
    if undecided is not None:
        beside = f"{first[1]} at line {first[0]}" if first else "no licence is stated anywhere"
        yield evidence.finding("licence", undecided, f"the licence is left open here; {beside}")


def _statements(evidence: Evidence) -> Iterator[tuple[int, str]]:
    """(line, words) that state the licence: in the front matter, after `License:`, in a section of that name."""
    for name in ("license", "licence"):
        if isinstance(front := evidence.card.front.get(name), str):
            yield evidence.card.front_lines.get(name, 1), front
    for line in evidence.card.lines:
        text = plain(line.text)[:_LONGEST]
        under = bool(line.headings) and key(plain(line.headings[-1])) in _words("word")
        begins = key(text.lstrip("-*• ").partition(":")[0]) in _words("word") and ":" in text
        if begins:
            yield line.number, text.partition(":")[2].strip()
        elif under and text != plain(line.headings[-1]):
            yield line.number, text


def _named(text: str) -> list[str]:
    """Licences that the words name, longest spelling first at each place."""
    words = [word for word in text.replace("(", " ").replace(")", " ").replace(",", " ").split() if key(word)]
    found: list[str] = []
    place = 0
    while place < len(words):
        for length in range(min(_MOST_WORDS, len(words) - place), 0, -1):
            licence = _spellings().get(key("".join(words[place : place + length])))
            if licence is not None:
                found += [licence] if licence not in found else []
                place += length - 1
                break
        place += 1
    return found
