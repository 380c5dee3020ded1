"""A conversation with a model, turn by turn, and questions whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import Field

from vernacular.foundation.configuration import Configuration, validate
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_text
from vernacular.models.language_model import Message, Sampling


class Chats(Protocol):
    """Whatever answers a conversation: our engine, or another back-end."""

    def stream_chat(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The assistant's answer, in pieces."""
        ...


class Conversation:
    """Messages so far; `ask` adds a turn of the user and the model's answer to it."""

    def __init__(self, lm: Chats, sampling: Sampling, system: str | None = None) -> None:
        self._lm = lm
        self._sampling = sampling
        self._opening: list[Message] = [{"role": "system", "content": system}] if system else []
        self.reset()

    def reset(self) -> None:
        """Forget everything but the system's message."""
        self.messages = list(self._opening)

    @property
    def has_turns(self) -> bool:
        """Whether there is anything to forget."""
        return len(self.messages) > len(self._opening)

    def ask(self, text: str) -> Iterator[str]:
        """The answer, in pieces. An answer that is broken off is kept as far as it came; a turn without one is not."""
        asked = [*self.messages, {"role": "user", "content": text}]
        pieces: list[str] = []
        try:
            for piece in self._lm.stream_chat(asked, self._sampling):
                pieces.append(piece)
                yield piece
        finally:
            if pieces:
                self.messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]


class Question(Configuration):
    """A question and the answer that is known to be right."""

    language: str = Field(description="language of the question: ISO 639-1 if it has one, else 639-3")
    question: str = Field(min_length=1, description="what to ask")
    answer: str = Field(description="the known answer")


def read_questions(path: Path) -> list[Question]:
    """Read questions from JSON Lines; the first malformed line is refused, naming its number."""
    questions = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            questions.append(validate(Question, json.loads(line)))
        except json.JSONDecodeError as error:
            raise UserError(f"not valid JSON: {error.msg}", where=f"{path}:{number}:{error.colno}") from error
        except UserError as error:
            raise UserError(error.message, where=f"{path}:{number} ({error.where})", fix=error.fix) from error
    if not questions:
        raise UserError("the file holds no questions", where=path)
    return questions
