"""Clean documents: a few sentences, each stating a fact in one of many wordings."""

from __future__ import annotations

from random import Random

from vernacular.corpus.synthetic.facts import Territory, months, territories
from vernacular.corpus.synthetic.filling import fill_date, fill_territory
from vernacular.corpus.synthetic.held_out import HeldOut
from vernacular.corpus.synthetic.numerals import number_in_words
from vernacular.corpus.synthetic.questions import Asker
from vernacular.corpus.synthetic.templates import Templates, templates

# Facts about territories must be read many times to be remembered; numbers and dates follow rules, so fewer suffice.
# Questions with answers, mixed with statements, teach that what is stated can be asked for.
KINDS = {"geography": 0.17, "numbers": 0.06, "dates": 0.05, "mixed": 0.04, "quiz": 0.25}
# Lists say the same in fewer words.
LISTINGS = {"geography": 0.25, "numbers": 0.1, "dates": 0.08}
_SHORTEST, _LONGEST = 3, 8
_MAX_CHARACTERS = 560
_ENTRIES = {"geography": (6, 12), "numbers": (6, 12), "dates": (5, 9)}
_ABOUT_LANGUAGES = 0.08


class DocumentWriter:
    """Writes documents of one language, one after another, from its own stream of random numbers."""

    def __init__(self, language: str, held_out: HeldOut, random: Random) -> None:
        self.language = language
        self._templates: Templates = templates(language)
        self._held_out = held_out
        self._random = random
        self._territories = territories(language)
        self._months = months(language)
        self._asker = Asker(language, held_out, random)
        self._deck: list[Territory] = []

    def write(self) -> tuple[str, str]:
        """The next document: its kind and its text."""
        kinds = [(kind, False) for kind in KINDS] + [(kind, True) for kind in LISTINGS]
        kind, listed = self._random.choices(kinds, [*KINDS.values(), *LISTINGS.values()])[0]
        if listed:
            sentences = [self._listing(kind)]
        else:
            sentences = [self._sentence(kind) for _ in range(self._random.randint(_SHORTEST, _LONGEST))]
        # A list alone has too few words of its language to tell it by.
        if listed or self._random.random() < 0.5:
            sentences.insert(0, self._random.choice(getattr(self._templates.openings, kind)))
        if self._random.random() < 0.15:
            sentences.append(self._random.choice(self._templates.closings))
        while sum(map(len, sentences)) > _MAX_CHARACTERS and len(sentences) > 2:
            sentences.pop()
        separator = "\n" if self._random.random() < 0.25 else " "
        return f"{kind}-list" if listed else kind, separator.join(sentences)

    def _sentence(self, kind: str) -> str:
        if kind == "mixed":
            kind = self._random.choice(("geography", "numbers", "dates", "months"))
        if kind == "quiz":
            return " ".join(self._asker.ask(self._asker.choose_kind()))
        sentences = self._templates.sentences
        if kind == "geography":
            with_languages = self._random.random() < _ABOUT_LANGUAGES
            return self._about_territory(sentences.languages if with_languages else sentences.currency)
        if kind == "numbers":
            return self._about_number(sentences.number)
        if kind == "dates":
            return self._about_date(sentences.date)
        return self._about_month()

    def _listing(self, kind: str) -> str:
        """Many facts of one kind in one sentence."""
        wording = (self._random.choice(getattr(self._templates.entries, kind)),)
        about = {"geography": self._about_territory, "numbers": self._about_number, "dates": self._about_date}[kind]
        entries = [about(wording) for _ in range(self._random.randint(*_ENTRIES[kind]))]
        return str(self._random.choice(getattr(self._templates.listings, kind))).format(entries="; ".join(entries))

    def _next_territory(self) -> Territory:
        """Territories are dealt like cards, so that each is written about equally often."""
        if not self._deck:
            self._deck = self._random.sample(self._territories, len(self._territories))
        return self._deck.pop()

    def _about_territory(self, wordings: tuple[str, ...]) -> str:
        return fill_territory(self._random.choice(wordings), self._next_territory(), self._templates)

    def _about_number(self, wordings: tuple[str, ...]) -> str:
        number = self._held_out.draw_number(self._random)
        return self._random.choice(wordings).format(number=number, words=number_in_words(number, self.language))

    def _about_date(self, wordings: tuple[str, ...]) -> str:
        day = self._held_out.draw_date(self._random)
        return fill_date(self._random.choice(wordings), day, self.language)

    def _about_month(self) -> str:
        number = self._random.randrange(12)
        template = self._random.choice(self._templates.sentences.month)
        return template.format(month=self._months[number], next=self._months[(number + 1) % 12])
