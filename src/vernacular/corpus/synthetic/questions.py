"""Questions with their answers, about anything that is not held out."""

from __future__ import annotations

from random import Random

from vernacular.corpus.synthetic.facts import months, territories
from vernacular.corpus.synthetic.filling import fill_date, fill_territory
from vernacular.corpus.synthetic.held_out import HeldOut
from vernacular.corpus.synthetic.numerals import number_in_words
from vernacular.corpus.synthetic.templates import Question, templates

KINDS = {"numbers": 0.3, "digits": 0.26, "dates": 0.24, "currencies": 0.15, "months": 0.05}
_AS_ASKED = 0.5


class Asker:
    """Asks in one language, about territories that are taught, and about numbers and dates that are not held out."""

    def __init__(self, language: str, held_out: HeldOut, random: Random) -> None:
        self.language = language
        self._templates = templates(language)
        self._held_out = held_out
        self._random = random
        everywhere = territories(language)
        self._territories = [everywhere[position] for position in held_out.taught]
        self._months = months(language)

    def choose_kind(self) -> str:
        """A kind of question."""
        return self._random.choices(list(KINDS), list(KINDS.values()))[0]

    def ask(self, kind: str) -> tuple[str, str]:
        """A question of `kind` that stands by itself, half of the time in the wording of the tasks; and its answer."""
        question: Question = getattr(self._templates.questions, kind)
        wording = question.asked if self._random.random() < _AS_ASKED else self._random.choice(question.others)
        return self._filled(kind, wording, question.answer)

    def follow_up(self, kind: str) -> tuple[str, str]:
        """A short question that is clear only after another of its kind; and its answer."""
        question: Question = getattr(self._templates.questions, kind)
        return self._filled(kind, self._random.choice(question.follow_ups), question.answer)

    def _filled(self, kind: str, question: str, answer: str) -> tuple[str, str]:
        if kind in ("numbers", "digits"):
            number = self._held_out.draw_number(self._random)
            values = {"number": number, "words": number_in_words(number, self.language)}
            return question.format(**values), answer.format(**values)
        if kind == "dates":
            day = self._held_out.draw_date(self._random)
            return fill_date(question, day, self.language), fill_date(answer, day, self.language)
        if kind == "currencies":
            territory = self._random.choice(self._territories)
            return fill_territory(question, territory, self._templates), fill_territory(
                answer, territory, self._templates
            )
        number = self._random.randrange(12)
        names = {"month": self._months[number], "next": self._months[(number + 1) % 12]}
        return question.format(**names), answer.format(**names)
