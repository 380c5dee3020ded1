"""Recognition: what optical and speech recognition make of a text."""

from __future__ import annotations

import unicodedata
from random import Random

import regex

from vernacular.corpus.quality.damage.kind import characters, kind, lines, words

_CONFUSED = {
    "l": "1",
    "I": "l",
    "o": "0",
    "O": "0",
    "e": "c",
    "n": "ri",
    "m": "rn",
    "a": "u",
    "s": "5",
    "b": "6",
    "g": "9",
    "ł": "t",
    "ą": "q",
    "ę": "e,",
    "ś": "s'",
    "ż": "z.",
    "ó": "6",
}


@kind("recognition")
def confused_shapes(text: str, language: str, share: float, random: Random) -> str:
    """Letters that optical recognition takes for others; where shapes are not known, its stray points and figures."""

    def confuse(one: str) -> str:
        return _CONFUSED.get(one) or random.choice((f"{one}.", f"{one}'", "1", "|", "", f"{one}:"))

    return characters(text, 0.25 * share, random, confuse, str.isalpha)


@kind("recognition")
def lost_marks(text: str, language: str, share: float, random: Random) -> str:
    """Diacritics and vowel signs that are gone; in a script without, every sixth letter."""
    decomposed = unicodedata.normalize("NFD", text)
    marks = [one for one in decomposed if unicodedata.category(one).startswith("M")]
    if len(marks) * 100 < len(decomposed):
        return characters(text, share / 6, random, lambda _: "", str.isalpha)
    kept = characters(
        decomposed, share, random, lambda _: "", lambda one: unicodedata.category(one).startswith("M") or one in "łŁ"
    )
    return unicodedata.normalize("NFC", kept)


@kind("recognition")
def broken_words(text: str, language: str, share: float, random: Random) -> str:
    """Spaces within words."""
    return words(
        text,
        share,
        random,
        lambda word: regex.sub(r"(?<=\w)(?=\w)", lambda _: " " if random.random() < 0.35 else "", word),
    )


@kind("recognition")
def joined_words(text: str, language: str, share: float, random: Random) -> str:
    """Spaces that are gone."""
    return regex.sub(r"(?<=\S) (?=\S)", lambda _: "" if random.random() < 0.8 * share else " ", text)


@kind("recognition")
def spaced_letters(text: str, language: str, share: float, random: Random) -> str:
    """L e t t e r s set apart."""
    return words(text, share, random, " ".join)


@kind("recognition")
def transcript(text: str, language: str, share: float, random: Random) -> str:
    """Speech recognition's: no punctuation, no capitals, no paragraphs."""
    spoken = lines(
        text, share, random, lambda line: regex.sub(r"[^\p{L}\p{M}\p{N}\s\p{Join_Control}]", "", line.lower())
    )
    return spoken.replace("\n", " ")
