"""Clean documents: a few sentences, each stating a fact in one of many wordings."""

from __future__ import annotations

import datetime
from random import Random

from vernacular.corpus.synthetic.facts import Territory, long_date, months, territories, weekday
from vernacular.corpus.synthetic.held_out import HeldOut
from vernacular.corpus.synthetic.numerals import number_in_words
from vernacular.corpus.synthetic.templates import Templates, templates

# Facts about territories must be read many times to be remembered; numbers and dates follow rules, so fewer suffice.
KINDS = {"geography": 0.3, "listing": 0.3, "numbers": 0.2, "dates": 0.12, "mixed": 0.08}
_SHORTEST, _LONGEST = 3, 8
_MAX_CHARACTERS = 560


class DocumentWriter:
    """Writes documents of one language, one after another, from its own stream of random numbers."""

    def __init__(self, language: str, held_out: HeldOut, random: Random) -> None:
        self.language = language
        self._templates: Templates = templates(language)
        self._held_out = held_out
        self._random = random
        self._territories = territories(language)
        self._months = months(language)
        self._deck: list[Territory] = []

    def write(self) -> tuple[str, str]:
        """The next document: its kind and its text."""
        kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "listing":
            return kind, self._listing()
        sentences = [self._sentence(kind) for _ in range(self._random.randint(_SHORTEST, _LONGEST))]
        if self._random.random() < 0.5:
            sentences.insert(0, self._random.choice(getattr(self._templates.openings, kind)))
        if self._random.random() < 0.15:
            sentences.append(self._random.choice(self._templates.closings))
        while sum(map(len, sentences)) > _MAX_CHARACTERS:
            sentences.pop()
        separator = "\n" if self._random.random() < 0.25 else " "
        return kind, separator.join(sentences)

    def _sentence(self, kind: str) -> str:
        if kind == "mixed":
            kind = self._random.choice(("geography", "numbers", "dates", "months"))
        if kind == "geography":
            return self._about_territory()
        if kind == "numbers":
            return self._about_number()
        if kind == "dates":
            return self._about_date()
        return self._about_month()

    def _listing(self) -> str:
        """Many territories with their currencies in one sentence."""
        sentences = self._templates.sentences
        entry = self._random.choice(sentences.entry)
        places = [self._next_territory() for _ in range(self._random.randint(8, 14))]
        entries = "; ".join(fill_territory(entry, place, self._templates) for place in places)
        return self._random.choice(sentences.listing).format(entries=entries)

    def _next_territory(self) -> Territory:
        """Territories are dealt like cards, so that each is written about equally often."""
        if not self._deck:
            self._deck = self._random.sample(self._territories, len(self._territories))
        return self._deck.pop()

    def _about_territory(self) -> str:
        territory = self._next_territory()
        if territory.languages and self._random.random() < 0.08:
            template = self._random.choice(self._templates.sentences.languages)
        else:
            template = self._random.choice(self._templates.sentences.currency)
        return fill_territory(template, territory, self._templates)

    def _about_number(self) -> str:
        number = self._held_out.draw_number(self._random)
        template = self._random.choice(self._templates.sentences.number)
        return template.format(number=number, words=number_in_words(number, self.language))

    def _about_date(self) -> str:
        day = self._held_out.draw_date(self._random)
        return fill_date(self._random.choice(self._templates.sentences.date), day, self.language)

    def _about_month(self) -> str:
        number = self._random.randrange(12)
        template = self._random.choice(self._templates.sentences.month)
        return template.format(month=self._months[number], next=self._months[(number + 1) % 12])


def fill_territory(template: str, territory: Territory, words: Templates) -> str:
    """`template` with the names of `territory`, with an article where the language wants one."""
    name = words.with_article(territory.name)
    return template.format(
        territory=name,
        Territory=name[:1].upper() + name[1:],
        currency=territory.currency,
        languages=words.enumerate(territory.languages),
    )


def fill_date(template: str, day: datetime.date, language: str) -> str:
    """`template` with a day in its forms; a weekday at the beginning is capitalised."""
    text = template.format(iso=day.isoformat(), date=long_date(day, language), weekday=weekday(day, language))
    return text[:1].upper() + text[1:]
