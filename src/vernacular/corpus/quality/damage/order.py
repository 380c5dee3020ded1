"""Order: everything is there, in another place."""

from __future__ import annotations

from random import Random

from vernacular.corpus.quality.damage.kind import kind, words


@kind("order")
def shuffled_words(text: str, language: str, share: float, random: Random) -> str:
    """Words in any order, with their punctuation."""
    words = text.split(" ")
    chosen = [place for place in range(len(words)) if random.random() < share]
    order = random.sample(chosen, len(chosen))
    return " ".join(words[{**dict(zip(chosen, order, strict=True))}.get(place, place)] for place in range(len(words)))


@kind("order")
def shuffled_letters(text: str, language: str, share: float, random: Random) -> str:
    """The letters of words in any order."""
    return words(text, share, random, lambda word: "".join(random.sample(word, len(word))))


@kind("order")
def reversed_words(text: str, language: str, share: float, random: Random) -> str:
    """Words from right to left."""
    return words(text, share, random, lambda word: word[::-1])
