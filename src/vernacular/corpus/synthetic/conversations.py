"""Conversations: short questions with known answers, some in several turns, some after a system message."""

from __future__ import annotations

from random import Random

from vernacular.corpus.synthetic.held_out import HeldOut
from vernacular.corpus.synthetic.questions import Asker
from vernacular.corpus.synthetic.templates import templates

Message = dict[str, str]
_WITH_SYSTEM = 0.15
_ANOTHER_TURN = 0.2
_SMALL_TALK = 0.04


class ConversationWriter:
    """Writes conversations of one language; what is held out is never mentioned."""

    def __init__(self, language: str, held_out: HeldOut, random: Random) -> None:
        self.language = language
        self._templates = templates(language)
        self._asker = Asker(language, held_out, random)
        self._random = random

    def write(self) -> list[Message]:
        """The messages of the next conversation."""
        random = self._random
        messages: list[Message] = []
        if random.random() < _WITH_SYSTEM:
            messages.append({"role": "system", "content": random.choice(self._templates.systems)})
        if random.random() < _SMALL_TALK:
            exchange = random.choice(self._templates.small_talk)
            return messages + _turn(exchange.user, exchange.assistant)
        kind = self._asker.choose_kind()
        messages += _turn(*self._asker.ask(kind))
        while random.random() < _ANOTHER_TURN:
            messages += _turn(*self._asker.follow_up(kind))
        return messages


def _turn(user: str, assistant: str) -> list[Message]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
