"""Messages of a conversation: their roles, what they say, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vernacular.foundation.errors import UserError, unknown_name
from vernacular.tokens.tool_calls import tool_calls_text

ROLES = ("system", "user", "assistant", "tool", "tool_response", "assistant_tool_call")
ASSISTANT = ("assistant", "assistant_tool_call")
Message = Mapping[str, Any]
"""{"role", "content"}; an assistant's may have `tool_calls` (as in OpenAI's API) in place of content."""


class ConversationError(UserError):
    """A conversation is at fault, not the template: a run may set it aside and go on."""


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse messages that are not {"role", "content"} with a known role and real text, or well-formed tool calls."""
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping):
            raise ConversationError(f"message {number} is not a mapping with role and content")
        calls = message.get("tool_calls")
        for key in ("role",) if calls else ("role", "content"):
            if not isinstance(message.get(key), str):
                raise ConversationError(f"message {number} has no text under '{key}'", fix=f'give it a "{key}"')
        if message["role"] not in ROLES:
            problem = unknown_name("role", message["role"], ROLES)
            raise ConversationError(f"{problem.message} in message {number}", fix=problem.fix)
        if calls and (message["role"] != "assistant" or message.get("content")):
            raise ConversationError(
                f"message {number} has tool calls beside {'text' if message.get('content') else 'another role'}",
                fix="give tool_calls only to a message of the assistant without content",
            )
        try:
            said(message, number).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConversationError(
                f"message {number} holds half a surrogate pair, which is not a character",
                fix="repair the text's encoding",
            ) from error


def said(message: Message, number: int | None = None) -> str:
    """What a message says: its content, or its tool calls as JSON."""
    if not message.get("tool_calls"):
        return str(message["content"])
    try:
        return tool_calls_text(message["tool_calls"])
    except ValueError as error:
        raise ConversationError(
            f"the tool calls of message {number or '?'} are malformed: {error}",
            fix='write [{"type": "function", "function": {"name": …, "arguments": {…}}}]',
        ) from error
