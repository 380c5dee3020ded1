"""Layout: tables, columns and pages that have lost their shape."""

from __future__ import annotations

import re
from random import Random

from vernacular.corpus.quality.damage.kind import kind, lines, sentences

_LONGEST_CELL = 4  # words


@kind("layout")
def broken_table(text: str, language: str, share: float, random: Random) -> str:
    """Cells of a table that has lost its columns."""
    mark = random.choice(("|", " | ", ";", "\t", "  "))

    def cells(line: str) -> str:
        words = line.split()
        parts = []
        while words:
            size = random.randint(1, _LONGEST_CELL)
            parts.append(" ".join(words[:size]) if random.random() < 0.6 else str(random.randint(0, 9999)))
            words = words[size:]
        rows = [mark.join(parts[at : at + 5]) for at in range(0, len(parts), random.randint(3, 6))]
        return "\n".join(rows)

    return lines(text, share, random, cells)


@kind("layout")
def truncated(text: str, language: str, share: float, random: Random) -> str:
    """Teasers: each paragraph breaks off after a few words."""
    end = random.choice(("...", "…", " [...]", "", ""))

    def cut(line: str) -> str:
        words = line.split()
        return " ".join(words[: random.randint(3, 9)]) + end if len(words) > 3 else line

    pieces = "\n".join(sentences(text)) if share > 0.5 else text
    return lines(pieces, share, random, cut)


@kind("layout")
def scattered_lines(text: str, language: str, share: float, random: Random) -> str:
    """Line breaks anywhere, within words too, as narrow columns give them."""

    def scatter(line: str) -> str:
        places = sorted(random.sample(range(len(line) + 1), min(len(line) // 14, len(line))))
        return "\n".join(line[begin:end] for begin, end in zip([0, *places], [*places, len(line)], strict=True))

    return lines(text, share, random, scatter)


@kind("layout")
def one_word_a_line(text: str, language: str, share: float, random: Random) -> str:
    """A list of words."""
    return lines(text, share, random, lambda line: "\n".join(line.split()))


@kind("layout")
def no_punctuation_spacing(text: str, language: str, share: float, random: Random) -> str:
    """Spaces before punctuation and none after."""
    return re.sub(
        r"(?<=\S)([.,;:!?।॥])(\s+)",
        lambda match: f" {match[1]}" if random.random() < share else match[0],
        text,
    )
