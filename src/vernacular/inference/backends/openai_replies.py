"""What a server with OpenAI's API sends back, as far as we read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vernacular.foundation.errors import MachineError
from vernacular.models.language_model import StoppedBy, TokenLogProbability
from vernacular.tokens.token_bytes import token_bytes
from vernacular.tokens.tokenizer import Tokenizer

UNKNOWN_TOKEN = -1
"""Stands for the id of a token of which the server says only the text."""


class LogProbabilities(BaseModel):
    """Of a text completion: token by token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


class Choice(BaseModel):
    """A text completion."""

    text: str
    finish_reason: str | None = None
    logprobs: LogProbabilities | None = None


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int | None = None


class Completion(BaseModel):
    """Answer to POST /completions; a chunk of its stream is the same."""

    choices: list[Choice]
    usage: Usage | None = None


class ChatMessage(BaseModel):
    """The assistant's."""

    content: str | None = None


class ChatChoice(BaseModel):
    """A chat's answer; `delta` in a stream."""

    message: ChatMessage | None = None
    delta: ChatMessage | None = None
    finish_reason: str | None = None


class ChatCompletion(BaseModel):
    """Answer to POST /chat/completions."""

    choices: list[ChatChoice]
    usage: Usage | None = None


class ListedModel(BaseModel):
    """A model that a server has."""

    id: str
    max_model_len: int | None = None


class ModelList(BaseModel):
    """Answer to GET /models."""

    data: list[ListedModel]


Reply = TypeVar("Reply", bound=BaseModel)


def read_reply(kind: type[Reply], sent: Any, url: str) -> Reply:
    """An answer of the API's shape, or an error that says what is wrong with it."""
    try:
        return kind.model_validate(sent)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MachineError(
            f"the server's answer is not of the API's shape: {place or 'all of it'}: {first['msg']}",
            where=url,
            fix="check that the URL is that of an OpenAI-compatible server, up to and with /v1",
        ) from error


def stopped_by(reason: str | None, has_stops: bool, url: str) -> StoppedBy:
    """Why an answer ended. The API does not tell a stop string from the end token: with stop strings it counts as one.

    Raises:
        MachineError: for a reason that makes the answer no answer (a filter, an error).
    """
    if reason == "length":
        return "length"
    if reason == "stop":
        return "stop" if has_stops else "end"
    raise MachineError(f"the server ended the answer for the reason '{reason}'", where=url)


class TokenNames:
    """Ids of tokens by what servers call them: their text, their bytes, their number.

    A name that several tokens share (all broken characters look alike) stands for none of them.
    """

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._ids: dict[str, int] = {}
        if tokenizer is None:
            return
        contents = token_bytes(tokenizer)
        for token_id in range(tokenizer.vocab_size):
            text = tokenizer.decode([token_id], skip_special=False)
            raw = "bytes:" + "".join(f"\\x{byte:02x}" for byte in contents[token_id])
            for name in {text, raw, f"token_id:{token_id}"}:
                self._ids[name] = UNKNOWN_TOKEN if name in self._ids else token_id

    def id(self, name: str) -> int:
        """The token of that name, or `UNKNOWN_TOKEN`."""
        return self._ids.get(name, UNKNOWN_TOKEN)

    def read(self, found: LogProbabilities, wanted: int) -> tuple[TokenLogProbability, ...]:
        """Log-probabilities of an answer, with `wanted` of the best in each place."""
        best: Sequence[dict[str, float] | None] = found.top_logprobs or [None] * len(found.tokens)
        return tuple(
            TokenLogProbability(self.id(name), name, _number(value), self._best(others or {}, wanted))
            for name, value, others in zip(found.tokens, found.token_logprobs, best, strict=True)
        )

    def _best(self, others: dict[str, float], wanted: int) -> tuple[tuple[int, str, float], ...]:
        order = sorted(others, key=lambda name: -others[name])[:wanted]
        return tuple((self.id(name), name, others[name]) for name in order)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
