"""Repetition: the same again and again."""

from __future__ import annotations

from random import Random

from vernacular.corpus.quality.damage.kind import inserted, kind, sentences, words


@kind("repetition")
def repeated_sentences(text: str, language: str, share: float, random: Random) -> str:
    """One sentence in place of others."""
    again = random.choices(sentences(text) or [text], k=random.randint(1, 2))
    return inserted(text, share, random, lambda: random.choice(again))


@kind("repetition")
def stuttering(text: str, language: str, share: float, random: Random) -> str:
    """Words several times in a row, as a model that loops writes them."""
    return words(text, 0.7 * share, random, lambda word: " ".join([word] * random.randint(2, 6)))


@kind("repetition")
def looping(text: str, language: str, share: float, random: Random) -> str:
    """A run of words again and again to the end."""
    words = text.split(" ")
    begin = int(len(words) * (1 - share))
    size = random.randint(2, 9)
    loop = words[begin : begin + size] or words[:size]
    rest = max(len(words) - begin, size)
    return " ".join([*words[:begin], *(loop * (rest // len(loop) + 1))[:rest]])
