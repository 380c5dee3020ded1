"""What is sent back: whole answers and the chunks of a stream, as OpenAI's API shapes them."""

from __future__ import annotations

import codecs
import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from vernacular.inference.serving.loop import Progress
from vernacular.inference.turn import read_turn
from vernacular.models.language_model import Generation, TokenLogProbability
from vernacular.tokens.token_bytes import token_bytes
from vernacular.tokens.tokenizer import Tokenizer


class Usage:
    """Tokens of a request."""

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt
        self.answer = 0

    def shaped(self) -> dict[str, int]:
        """As the API has it."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.answer,
            "total_tokens": self.prompt + self.answer,
        }


class Writer(ABC):
    """Writes the objects of one response."""

    prefix: str
    whole_kind: str
    chunk_kind: str

    def __init__(self, model: str, tokenizer: Tokenizer) -> None:
        self.id = f"{self.prefix}-{secrets.token_hex(12)}"
        self._model = model
        self._tokens = TokenTexts(tokenizer)
        self._created = int(time.time())

    def whole(self, generations: Sequence[Generation], usage: Usage) -> dict[str, Any]:
        """The response of a request that does not stream."""
        choices = [self.choice(number, generation) for number, generation in enumerate(generations)]
        return {**self._frame(self.whole_kind), "choices": choices, "usage": usage.shaped()}

    def usage(self, usage: Usage) -> dict[str, Any]:
        """The last chunk of a stream that is to have it."""
        return {**self._frame(self.chunk_kind), "choices": [], "usage": usage.shaped()}

    def chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        """A chunk with one choice."""
        return {**self._frame(self.chunk_kind), "choices": [choice]}

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self._created, "model": self._model}

    @abstractmethod
    def choice(self, number: int, generation: Generation) -> dict[str, Any]:
        """A whole answer."""

    @abstractmethod
    def opening(self, num_choices: int) -> Iterator[dict[str, Any]]:
        """What a stream begins with."""

    @abstractmethod
    def pieces(self, number: int, progress: Progress) -> Iterator[dict[str, Any]]:
        """Chunks for what came of an answer."""


class CompletionWriter(Writer):
    """Writes text completions.

    Args:
        model: its name.
        tokenizer: of the model.
        echo: the prompt of each choice to put before it; empty where it is not asked for.
        first_tokens: the first token of each choice's prompt.
    """

    prefix, whole_kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def __init__(
        self, model: str, tokenizer: Tokenizer, echo: Sequence[str] = (), first_tokens: Sequence[int] = ()
    ) -> None:
        super().__init__(model, tokenizer)
        self._first_tokens = first_tokens
        self._echo = echo
        self.echo_scores: Sequence[Sequence[TokenLogProbability | None]] = ()
        self._offsets: dict[int, _Offsets] = {}
        self._held: dict[int, list[TokenLogProbability]] = {}

    def choice(self, number: int, generation: Generation) -> dict[str, Any]:
        """A choice with text."""
        found: Sequence[TokenLogProbability | None] | None = generation.log_probabilities
        if self.echo_scores and found is not None:
            found = (*self.echo_scores[number], *found)
        text = (self._echo[number] if self._echo else "") + generation.text
        return self._choice(number, text, found, generation)

    def opening(self, num_choices: int) -> Iterator[dict[str, Any]]:
        """The prompts, where they are to be repeated."""
        for number, text in enumerate(self._echo):
            scores = self.echo_scores[number] if self.echo_scores else None
            yield self.chunk(self._choice(number, text, scores, None))

    def pieces(self, number: int, progress: Progress) -> Iterator[dict[str, Any]]:
        """A chunk, once there is text to show."""
        held = self._held.setdefault(number, [])
        held += progress.log_probabilities
        if progress.text or progress.finished:
            found, self._held[number] = (tuple(held) if held else None), []
            yield self.chunk(self._choice(number, progress.text, found, progress.finished))

    def _choice(
        self,
        number: int,
        text: str,
        found: Sequence[TokenLogProbability | None] | None,
        finished: Generation | None,
    ) -> dict[str, Any]:
        return {
            "index": number,
            "text": text,
            "logprobs": None if found is None else self._log_probabilities(number, found),
            "finish_reason": None if finished is None else _reason(finished),
        }

    def _log_probabilities(self, number: int, found: Sequence[TokenLogProbability | None]) -> dict[str, Any]:
        """None stands for a prompt's first token, which is not scored."""
        offsets = self._offsets.setdefault(number, _Offsets())
        tokens = [self._first_tokens[number] if one is None else one.token for one in found]
        return {
            "tokens": [self._tokens.text(token) for token in tokens],
            "token_logprobs": [None if one is None else one.log_probability for one in found],
            "top_logprobs": [
                None if one is None else {self._tokens.text(token): value for token, _, value in one.best}
                for one in found
            ],
            "text_offset": [offsets.next(self._tokens.content(token)) for token in tokens],
        }


class ChatWriter(Writer):
    """Writes chat completions.

    Args:
        model: its name.
        tokenizer: of the model.
        marker: what an answer that calls tools starts with; None where no tools are offered. With tools, the text of
            a stream comes at its end: before, it might be a call.
    """

    prefix, whole_kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, model: str, tokenizer: Tokenizer, marker: str | None) -> None:
        super().__init__(model, tokenizer)
        self._marker = marker
        self._tokenizer = tokenizer
        self._held: dict[int, list[TokenLogProbability]] = {}

    def choice(self, number: int, generation: Generation) -> dict[str, Any]:
        """A choice with a message."""
        message = {"role": "assistant", "refusal": None, **self._turn(generation)}
        return {
            "index": number,
            "message": message,
            "logprobs": self._log_probabilities(generation.log_probabilities),
            "finish_reason": "tool_calls" if "tool_calls" in message else _reason(generation),
        }

    def opening(self, num_choices: int) -> Iterator[dict[str, Any]]:
        """The role of each choice."""
        for number in range(num_choices):
            yield self.chunk(_delta(number, {"role": "assistant", "content": ""}))

    def pieces(self, number: int, progress: Progress) -> Iterator[dict[str, Any]]:
        """A chunk, once there is text to show or a call to make."""
        held = self._held.setdefault(number, [])
        held += progress.log_probabilities
        turn: dict[str, Any] = {"content": progress.text} if progress.text else {}
        if self._marker is not None:
            turn = self._turn(progress.finished) if progress.finished else {}
            for place, call in enumerate(turn.get("tool_calls", ())):
                call["index"] = place
        if turn or (held and progress.finished):
            found, self._held[number] = (tuple(held) if held else None), []
            yield self.chunk(_delta(number, turn, self._log_probabilities(found)))
        if progress.finished:
            reason = "tool_calls" if "tool_calls" in turn else _reason(progress.finished)
            yield self.chunk(_delta(number, {}, None, reason))

    def _turn(self, generation: Generation) -> dict[str, Any]:
        """Content, or tool calls."""
        turn = read_turn(generation, self._tokenizer, self._marker)
        if not turn.calls:
            return {"content": turn.content}
        calls = [
            {
                "id": f"call_{secrets.token_hex(12)}",
                "type": "function",
                "function": {
                    "name": call["name"],
                    "arguments": json.dumps(call["arguments"], ensure_ascii=False),
                },
            }
            for call in turn.calls
        ]
        return {"content": None, "tool_calls": calls}

    def _log_probabilities(self, found: Sequence[TokenLogProbability] | None) -> dict[str, Any] | None:
        if found is None:
            return None
        return {
            "content": [
                {
                    **self._entry(one.token, one.log_probability),
                    "top_logprobs": [self._entry(token, value) for token, _, value in one.best],
                }
                for one in found
            ],
            "refusal": None,
        }

    def _entry(self, token: int, value: float) -> dict[str, Any]:
        content = self._tokens.content(token)
        return {"token": self._tokens.text(token), "logprob": value, "bytes": list(content) if content else None}


class TokenTexts:
    r"""Tokens as the API shows them: as text, or as `bytes:\xe0\xa4` where a token is only a part of a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def content(self, token: int) -> bytes:
        """Its bytes; none for a control token."""
        contents = token_bytes(self._tokenizer)
        return contents[token] if token < len(contents) else b""

    def text(self, token: int) -> str:
        """Its text; a control token's as the vocabulary writes it."""
        content = self.content(token)
        if not content:
            return self._tokenizer.token_text(token) or ""
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


class _Offsets:
    """Where in the answer's text each token begins, in characters; parts of a character begin where it does."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0

    def next(self, content: bytes) -> int:
        start = self._length
        self._length += len(self._decoder.decode(content))
        return start


def _delta(
    number: int, delta: dict[str, Any], log_probabilities: dict[str, Any] | None = None, reason: str | None = None
) -> dict[str, Any]:
    return {"index": number, "delta": delta, "logprobs": log_probabilities, "finish_reason": reason}


def _reason(generation: Generation) -> str:
    return "length" if generation.stopped_by == "length" else "stop"
