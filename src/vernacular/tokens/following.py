"""What others say, followed through a template's rendering.

A conversation is rendered twice: as it is, and with a placeholder for every text that is not the template's own. Laid
over each other, they show where each of those texts stands, so that none is ever taken for the template's words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import regex

from vernacular.foundation.errors import UserError
from vernacular.tokens.messages import ConversationError, Message

Write = Callable[[list[dict[str, Any]], Any, Any], str]
"""Renders messages, tools and documents."""

# Private-use characters round a number: no template writes them by itself, and trimming leaves them alone.
PLACEHOLDER = "\ue000{}\ue001"
_PLACEHOLDERS = regex.compile("\ue000([0-9]+)\ue001")
# Text without which no control token is written, and on which templates decide: names, types, dates.
_HARMLESS = regex.compile(r"[\w\p{M}\u200c\u200d .,:/$-]*")


class Span(NamedTuple):
    """A stretch of a rendering, in characters, that is not the template's own; `message` is None for other data."""

    start: int
    stop: int
    message: int | None


class Rendering(NamedTuple):
    """A rendered conversation and, in order, the stretches that are not the template's own."""

    text: str
    spans: list[Span]


def follow(write: Write, messages: Sequence[Message], tools: Any, documents: Any, name: str) -> Rendering:
    """Render, and find each message's text, and each text of tools and documents.

    Args:
        write: the template.
        messages: each with its text under `content`.
        tools: JSON data, or None.
        documents: JSON data, or None.
        name: the template's name, for errors.

    Raises:
        UserError: the template drops, repeats, reorders or alters texts, so that they cannot be followed.
    """
    text = write([dict(message) for message in messages], tools, documents)
    texts = [str(message["content"]) for message in messages]
    stand_ins = [
        {
            **{key: _stand_in(value, texts) for key, value in message.items() if key not in ("role", "content")},
            "role": message["role"],
            "content": PLACEHOLDER.format(number),
        }
        for number, message in enumerate(messages)
    ]
    with_placeholders = write(stand_ins, _stand_in(tools, texts), _stand_in(documents, texts))
    cut = _PLACEHOLDERS.split(with_placeholders)
    literals, numbers = cut[0::2], [int(number) for number in cut[1::2]]
    if [number for number in numbers if number < len(messages)] != list(range(len(messages))):
        raise UserError(
            "the template does not write each message's text once, in order, so its text cannot be followed",
            where=name,
            fix="write every message's content exactly once",
        )
    spans, position = [], 0
    for place, number in enumerate(numbers):
        start = position + len(literals[place])
        for written in _forms(texts[number], is_message=number < len(messages)):
            if text.startswith(literals[place] + written + literals[place + 1], position):
                break
        else:
            what = f"the text of message {number + 1}" if number < len(messages) else f"the text {texts[number]!r:.60}"
            raise UserError(
                f"the template alters {what} by more than trimming its ends",
                where=name,
                fix="write the content as it is",
            )
        position = start + len(written)
        spans.append(Span(start, position, number if number < len(messages) else None))
    if len(text) != position + len(literals[-1]) or not text.endswith(literals[-1]):
        raise UserError("the template writes more for these texts than for others", where=name)
    return Rendering(text, spans)


def _forms(text: str, *, is_message: bool) -> Iterator[str]:
    """The ways in which a template may write a text."""
    yield text
    yield text.strip()
    if not is_message:
        yield json.dumps(text, ensure_ascii=False)[1:-1]


def _stand_in(value: Any, texts: list[str]) -> Any:
    """JSON data with a placeholder for each text that could hold a control token; those go to the end of `texts`."""
    if isinstance(value, str):
        if _HARMLESS.fullmatch(value):
            return value
        texts.append(value)
        return PLACEHOLDER.format(len(texts) - 1)
    if isinstance(value, dict):
        for key in value:
            if not _HARMLESS.fullmatch(key):
                raise ConversationError(
                    f"the key {key!r} of a tool or document holds more than letters, digits and simple punctuation",
                    fix="rename it; as it is, it could not be told from a control token",
                )
        return {key: _stand_in(one, texts) for key, one in value.items()}
    if isinstance(value, list):
        return [_stand_in(one, texts) for one in value]
    return value
