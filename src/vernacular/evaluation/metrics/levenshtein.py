"""The rule by which the Open PL LLM Leaderboard accepts a short answer (PolQA, PoQuAD).

Source: speakleash/lm-evaluation-harness, branches `polish` and `polqa`. The published code of the PoQuAD task has an
unescaped dot in the expression that was to strip a full stop, and so deletes the last character of every answer. That
is reproduced by `strip="poquad as published"` alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vernacular.foundation.errors import unknown_name

_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
STRIPS = ("none", "full stop", "poquad as published")


def is_accepted(answer: str, references: Sequence[str], strip: str = "full stop") -> bool:
    """Whether an answer counts as right: one reference suffices.

    Where the reference has a number, the answer's first number must equal it (a decimal comma is a point). Else the
    edit distance of the two in lower case must be less than half the reference's length.
    """
    given = stripped(answer, strip)
    return any(_agrees(given, reference) for reference in references)


def stripped(answer: str, strip: str) -> str:
    """The answer without what the task cuts off its end."""
    if strip not in STRIPS:
        raise unknown_name("strip", strip, STRIPS, where="levenshtein")
    text = answer.removesuffix("</s>").strip() if strip != "none" else answer
    if strip == "full stop":
        return text.removesuffix(".")
    return text[:-1] if strip == "poquad as published" else text


def _agrees(answer: str, reference: str) -> bool:
    wanted = _NUMBER.search(reference)
    if wanted is not None:
        found = _NUMBER.search(answer)
        return found is not None and found[0].replace(",", ".") == wanted[0].replace(",", ".")
    return edit_distance(answer.lower(), reference.lower()) < len(reference) / 2


def edit_distance(one: str, other: str) -> int:
    """Fewest insertions, deletions and replacements of characters that turn one text into the other."""
    before = list(range(len(other) + 1))
    for row, letter in enumerate(one, start=1):
        now = [row]
        for column, against in enumerate(other, start=1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (letter != against)))
        before = now
    return before[-1]
