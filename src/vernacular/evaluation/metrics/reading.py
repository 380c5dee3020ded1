"""Answers to questions about a text, as SQuAD scores them: exact match and token F1 after normalisation.

Rajpurkar et al. 2016, whose script drops the English articles. Which words are dropped, and how text becomes tokens, is
the language's: MLQA's rules (Lewis et al. 2020) for those it has, no article and spaces for the others
(`data/articles.yaml`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from vernacular.evaluation.benchmarks import data


def normalised(text: str, language: str | None = None) -> list[str]:
    """Tokens in lower case, without punctuation and articles; letters one by one where words are not spaced."""
    facts = data("articles.yaml").get((language or "").partition("-")[0], {})
    lowered = text.lower()
    if "prefix" in facts:
        lowered = re.sub(rf"(?<!\w){facts['prefix']}", "", lowered)
    tokens = "".join(letter for letter in lowered if unicodedata.category(letter)[0] not in "PS").split()
    if facts.get("spaced", True):
        dropped = set(facts.get("articles", ()))
        return [token for token in tokens if token not in dropped]
    return [letter for token in tokens for letter in _letters(token)]


def _letters(token: str) -> list[str]:
    """Latin words and numbers whole, all else letter by letter with its marks."""
    return re.findall(r"[A-Za-z0-9]+|[^\sA-Za-z0-9][\u0300-\u036f\u0e31-\u0e3a\u0e47-\u0e4e]*", token)


def exact(answer: str, references: Sequence[str], language: str | None = None) -> float:
    """Whether the answer equals a reference after normalisation; none is right for an empty list if it is empty."""
    given = normalised(answer, language)
    return float(any(given == normalised(reference, language) for reference in references or [""]))


def token_f1(answer: str, references: Sequence[str], language: str | None = None) -> float:
    """Best F1 of the answer's tokens and a reference's."""
    given = normalised(answer, language)
    return max(_f1(given, normalised(reference, language)) for reference in references or [""])


def _f1(given: Sequence[str], wanted: Sequence[str]) -> float:
    if not given or not wanted:
        return float(list(given) == list(wanted))
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))
