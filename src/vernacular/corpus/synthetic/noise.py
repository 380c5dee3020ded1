"""Labelled noise: each kind of damage and rubbish that curation must repair or remove."""

from __future__ import annotations

import datetime
from random import Random

import ftfy

from vernacular.corpus.synthetic.facts import long_date, territories
from vernacular.corpus.synthetic.held_out import FIRST_DAY, NUM_DAYS
from vernacular.corpus.synthetic.templates import OtherLanguages, Templates, other_languages

_SITES = ("example.com", "example.org", "example.net", "portal.example", "shop.example", "news.example")
_PRIVATE_USE = range(0xE000, 0xF8FF)
_C1_CONTROLS = range(0x80, 0xA0)
# Shorter documents than this change too much when a word goes for the copy to count as nearly the same.
MIN_WORDS_NEAR_DUPLICATE = 40


def mojibake(text: str) -> str | None:
    """`text` as UTF-8 read as Windows-1252, if ftfy turns it back into exactly `text`; None if it does not."""
    # The five bytes that Windows-1252 leaves undefined are read as Latin-1, as browsers do.
    damaged = "".join(bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in text.encode("utf-8"))
    return damaged if damaged != text and ftfy.fix_text(damaged) == text else None


def break_encoding(text: str, random: Random) -> str:
    """`text` with damage that cannot be undone: characters replaced, or bytes lost before a wrong decoding."""
    ways = [_replace_characters, _replace_private_use, _replace_controls]
    if sum(not character.isascii() for character in text) > len(text) / 3:
        ways.append(_drop_bytes)
    return random.choice(ways)(text, random)


def _replaced(text: str, random: Random, replacements: list[str]) -> str:
    """`text` with 12 to 35 in a hundred of its visible characters replaced."""
    visible = [place for place, character in enumerate(text) if not character.isspace()]
    damaged = list(text)
    for place in random.sample(visible, round(random.uniform(0.12, 0.35) * len(visible))):
        damaged[place] = random.choice(replacements)
    return "".join(damaged)


def _replace_characters(text: str, random: Random) -> str:
    return _replaced(text, random, ["\N{REPLACEMENT CHARACTER}"])


def _replace_private_use(text: str, random: Random) -> str:
    return _replaced(text, random, [chr(code) for code in random.sample(_PRIVATE_USE, 20)])


def _replace_controls(text: str, random: Random) -> str:
    return _replaced(text, random, [chr(code) for code in _C1_CONTROLS])


def _drop_bytes(text: str, random: Random) -> str:
    kept = bytes(byte for byte in text.encode("utf-8") if byte < 0x80 or random.random() > 0.2)
    return kept.decode("latin-1")


def exact_duplicate(text: str, random: Random) -> str:
    """`text` again, as it is or with other white space."""
    if random.random() < 0.5:
        return text
    return random.choice((text.replace("\n", " "), text.replace(". ", ".  "), text + "\n", " " + text))


def near_duplicate(text: str, random: Random) -> str:
    """`text` with one to three words less, most often at its end: always the shorter of the two."""
    words = text.split(" ")
    if random.random() < 0.6:
        return " ".join(words[: -random.randint(1, 3)])
    del words[random.randrange(len(words))]
    return " ".join(words)


def boilerplate(templates: Templates, random: Random) -> str:
    """What surrounds the text on a web page."""
    lines = random.sample(templates.boilerplate, random.randint(4, 9))
    return "\n".join(line.format(site=random.choice(_SITES)) for line in lines)


def spam(templates: Templates, random: Random) -> str:
    """Stuffed keywords, one line again and again, or a list of offers with links and telephone numbers."""
    keywords = templates.spam.keywords
    way = random.choice(("keywords", "repeated", "offers"))
    if way == "keywords":
        few = random.sample(keywords, random.randint(2, 4))
        return ", ".join(random.choice(few) for _ in range(random.randint(20, 40)))
    if way == "repeated":
        return "\n".join([_offer(templates, random)] * random.randint(6, 12))
    return "\n".join(_offer(templates, random) for _ in range(random.randint(6, 12)))


def _offer(templates: Templates, random: Random) -> str:
    keyword = random.choice(templates.spam.keywords)
    phone = "-".join(str(random.randint(100, 999)) for _ in range(3))
    link = f"http://{random.choice(_SITES)}/{random.randint(10_000, 99_999)}"
    return random.choice(templates.spam.lines).format(keyword=keyword, phone=phone, link=link)


def wrong_language(number: int, random: Random) -> tuple[str, str]:
    """A document in a language that was not asked for, each in turn: its ISO 639-1 code and its text."""
    languages = sorted(OtherLanguages.model_fields)
    language = languages[number % len(languages)]
    templates = getattr(other_languages(), language)
    sentences = [templates.opening]
    for template in random.choices(templates.sentences, k=random.randint(3, 5)):
        territory = random.choice(territories(language))
        day = FIRST_DAY + datetime.timedelta(random.randrange(NUM_DAYS))
        sentences.append(
            template.format(territory=territory.name, currency=territory.currency, date=long_date(day, language))
        )
    return language, " ".join(sentences)
