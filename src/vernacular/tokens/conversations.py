"""Conversations at rest: a line of JSON each; a malformed one is named by its line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_bytes
from vernacular.foundation.progress import progress
from vernacular.tokens.messages import ConversationError, Message, check_messages, said
from vernacular.tokens.shard import NAME_BYTES

# How far an answer is trusted, and what its tokens then weigh in the loss (Bielik 7B, arXiv 2410.18565): written by
# people, generated and verified, generated.
NAMED_WEIGHTS: Mapping[str, float] = {"high": 1.0, "medium": 0.7, "low": 0.5}


@dataclass(frozen=True)
class Conversation:
    """A conversation and where it came from.

    Attributes:
        id: what the file calls it, or the first 32 digits of its line's SHA-256.
        language: code of its language, "und" where the file gives none.
        messages: role and content of each.
        tools: the tools that its calls are to, None without any.
        documents: what its answers rest on, None without any.
        weight: factor on the loss of all its tokens (Bielik's weights of trusted and generated answers).
        line: its line in the file, from 1.
    """

    id: str
    language: str
    messages: list[Message]
    weight: float
    line: int
    tools: list[Any] | None = None
    documents: list[Any] | None = None

    @property
    def name(self) -> str:
        """The id as 32 hexadecimal digits: itself if it has that form, else the beginning of its SHA-256."""
        digits = 2 * NAME_BYTES
        is_name = len(self.id) == digits and all(digit in "0123456789abcdef" for digit in self.id)
        return self.id if is_name else sha256_bytes(self.id.encode("utf-8"))[:digits]

    @property
    def text(self) -> str:
        """What was said, a message a line."""
        return "\n".join(map(said, self.messages))


def read_conversations(path: Path, reject: Callable[[int, UserError], None]) -> Iterator[Conversation]:
    """The conversations of a JSONL file; each malformed line is given to `reject` with its number and its error."""
    if not path.is_file():
        raise UserError("file not found", where=path, fix="name a JSONL file of conversations")
    with open(path, "rb") as file, progress(doing="reading conversations", total=path.stat().st_size, unit="B") as bar:
        for number, line in enumerate(file, start=1):
            bar.update(len(line))
            if not line.strip():
                continue
            try:
                conversation = parse_conversation(line, number)
            except ConversationError as error:
                reject(number, error)
                continue
            yield conversation


def parse_conversation(line: bytes, number: int) -> Conversation:
    """A conversation from its line; `ConversationError` says what is wrong with it. Further keys are not looked at."""
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConversationError(f"not valid UTF-8 at byte {error.start} of the line") from error
    except json.JSONDecodeError as error:
        raise ConversationError(f"not valid JSON at column {error.colno}: {error.msg}") from error
    if not isinstance(record, dict) or not isinstance(record.get("messages"), list) or not record["messages"]:
        raise ConversationError(
            "not a conversation: it needs a list of messages", fix='{"messages": [{"role", "content"}]}'
        )
    check_messages(record["messages"])
    return Conversation(
        id=_string(record, "id", sha256_bytes(line.strip())[: 2 * NAME_BYTES]),
        language=_string(record, "language", "und"),
        messages=record["messages"],
        weight=_weight(record),
        line=number,
        tools=_list(record, "tools"),
        documents=_list(record, "documents"),
    )


def _string(record: dict[str, Any], key: str, otherwise: str) -> str:
    value = record.get(key, otherwise)
    if not isinstance(value, str) or not value:
        raise ConversationError(f"'{key}' is not a text: {value!r}")
    return value


def _list(record: dict[str, Any], key: str) -> list[Any] | None:
    value = record.get(key)
    if value is not None and not isinstance(value, list):
        raise ConversationError(f"'{key}' is not a list: {value!r:.80}")
    return value


def _weight(record: dict[str, Any]) -> float:
    value = record.get("weight", 1.0)
    if isinstance(value, str) and value in NAMED_WEIGHTS:
        return NAMED_WEIGHTS[value]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        names = ", ".join(NAMED_WEIGHTS)
        raise ConversationError(f"'weight' is not a number above 0 or one of {names}: {value!r}")
    return float(value)
