"""How a chat template writes: found out by letting it write, since its source would not say."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from vernacular.tokens.following import PLACEHOLDER
from vernacular.tokens.messages import ConversationError, Message

_STAND_IN = PLACEHOLDER.format(0)
_QUESTION = {"role": "user", "content": "?"}
_ANSWER = {"role": "assistant", "content": "!"}


class Dialect:
    """What a template does with each role.

    Args:
        write: the template: messages, and whether to add the generation prompt, to text.
    """

    def __init__(self, write: Callable[[list[dict[str, Any]], bool], str]) -> None:
        self._write = write

    @cached_property
    def openings(self) -> tuple[str, ...]:
        """How a rendered conversation starts, up to its first message's text: with a system message, and without."""
        system, user = {"role": "system", "content": _STAND_IN}, {"role": "user", "content": _STAND_IN}
        written = [self._probe([system, _QUESTION, _ANSWER]), self._probe([user, _ANSWER])]
        starts = [text.partition(_STAND_IN)[0] for text in written if text is not None and _STAND_IN in text]
        return tuple(dict.fromkeys(start for start in starts if start.strip()))

    @cached_property
    def tool_call_marker(self) -> str | None:
        """What stands between the generation prompt and the JSON of tool calls; None where calls have no place."""
        return self._between_prompt_and("assistant_tool_call")

    @cached_property
    def tool_role(self) -> str | None:
        """The role under which what a tool answered is written: `tool` or `tool_response`; None for neither."""
        for role in ("tool", "tool_response"):
            text = self._probe([_QUESTION, {"role": role, "content": _STAND_IN}])
            if text is not None and _STAND_IN in text:
                return role
        return None

    def lead(self, message: Message) -> str:
        """What the assistant writes itself between the prompt and this message's text: a marker, a blank, nothing."""
        return (self.tool_call_marker or "") if message["role"] == "assistant_tool_call" else self._blank

    @cached_property
    def _blank(self) -> str:
        """The blank that some templates leave to the assistant (`[/INST] TEXT`)."""
        return " " if self._between_prompt_and("assistant") == " " else ""

    def _between_prompt_and(self, role: str) -> str | None:
        prompt = self._probe([_QUESTION], add_generation_prompt=True)
        text = self._probe([_QUESTION, {"role": role, "content": _STAND_IN}])
        if prompt is None or text is None or _STAND_IN not in text or not text.startswith(prompt):
            return None
        return text.removeprefix(prompt).partition(_STAND_IN)[0]

    def _probe(self, messages: list[dict[str, Any]], add_generation_prompt: bool = False) -> str | None:
        try:
            return self._write(messages, add_generation_prompt)
        except ConversationError:
            return None
