"""Conversations: short questions with known answers, some in several turns, some after a system message."""

from __future__ import annotations

from random import Random

from vernacular.corpus.synthetic.documents import fill_date, fill_territory
from vernacular.corpus.synthetic.facts import months, territories
from vernacular.corpus.synthetic.held_out import HeldOut
from vernacular.corpus.synthetic.numerals import number_in_words
from vernacular.corpus.synthetic.templates import Question, templates

Message = dict[str, str]
KINDS = {"numbers": 0.28, "digits": 0.26, "dates": 0.2, "currencies": 0.15, "months": 0.05, "small_talk": 0.05}
_WITH_SYSTEM = 0.15
_SECOND_TURN = 0.2
_AS_ASKED = 0.5


class ConversationWriter:
    """Writes conversations of one language; what is held out is never mentioned."""

    def __init__(self, language: str, held_out: HeldOut, random: Random) -> None:
        self.language = language
        self._templates = templates(language)
        self._held_out = held_out
        self._random = random
        everywhere = territories(language)
        self._territories = [everywhere[position] for position in held_out.taught]
        self._months = months(language)

    def write(self) -> list[Message]:
        """The messages of the next conversation."""
        random = self._random
        messages: list[Message] = []
        if random.random() < _WITH_SYSTEM:
            messages.append({"role": "system", "content": random.choice(self._templates.systems)})
        kind = random.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "small_talk":
            exchange = random.choice(self._templates.small_talk)
            return messages + _turn(exchange.user, exchange.assistant)
        question: Question = getattr(self._templates.questions, kind)
        wording = question.asked if random.random() < _AS_ASKED else random.choice(question.others)
        messages += self._filled(kind, wording, question.answer)
        while random.random() < _SECOND_TURN:
            messages += self._filled(kind, random.choice(question.follow_ups), question.answer)
        return messages

    def _filled(self, kind: str, wording: str, answer: str) -> list[Message]:
        """A question of `kind` about something new, and its answer."""
        random = self._random
        if kind in ("numbers", "digits"):
            number = self._held_out.draw_number(random)
            values = {"number": number, "words": number_in_words(number, self.language)}
            return _turn(wording.format(**values), answer.format(**values))
        if kind == "dates":
            day = self._held_out.draw_date(random)
            return _turn(fill_date(wording, day, self.language), fill_date(answer, day, self.language))
        if kind == "currencies":
            territory = random.choice(self._territories)
            return _turn(*(fill_territory(part, territory, self._templates) for part in (wording, answer)))
        number = random.randrange(12)
        names = {"month": self._months[number], "next": self._months[(number + 1) % 12]}
        return _turn(wording.format(**names), answer.format(**names))


def _turn(user: str, assistant: str) -> list[Message]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
