"""Web: what surrounds a text on a page, and what people put in its place."""

from __future__ import annotations

from random import Random

from vernacular.corpus.quality.damage.kind import inserted, kind, stock, words


@kind("web")
def menus(text: str, language: str, share: float, random: Random) -> str:
    """Menus and notices in place of sentences."""
    phrases = stock(language, "boilerplate")
    if not phrases:
        return text
    mark = random.choice((" | ", "\n", " » ", " • "))

    def menu() -> str:
        return mark.join(phrase.capitalize() for phrase in random.choices(phrases, k=random.randint(3, 8)))

    return inserted(text, share, random, menu)


@kind("web")
def advertising(text: str, language: str, share: float, random: Random) -> str:
    """Offers in place of sentences, in capitals and with many exclamation marks."""
    phrases = stock(language, "spam")
    if not phrases:
        return text

    def offer() -> str:
        said = " ".join(random.choices(phrases, k=random.randint(2, 4)))
        loud = said.upper() if random.random() < 0.6 else said
        return f"{loud}{'!' * random.randint(1, 5)} {random.choice('🔥⭐👉💥💰')}"

    return inserted(text, share, random, offer)


@kind("web")
def keywords(text: str, language: str, share: float, random: Random) -> str:
    """The same few words again and again, between commas."""
    vocabulary = [word.strip('.,;:!?।"()') for word in text.split() if len(word) > 3] or ["x"]
    few = random.choices(vocabulary, k=random.randint(3, 6))
    return inserted(text, share, random, lambda: ", ".join(random.choices(few, k=random.randint(8, 20))))


@kind("web")
def chatter(text: str, language: str, share: float, random: Random) -> str:
    """Smileys, drawn-out letters and exclamation marks."""

    def draw_out(word: str) -> str:
        return random.choice(
            (f"{word}{word[-1] * random.randint(3, 8)}", f"{word} :)))", f"{word}!!!", f"{word} 😂😂", word.upper())
        )

    return words(text, 0.7 * share, random, draw_out)
