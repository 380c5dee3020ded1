"""Tool calls: as JSON in an assistant's turn, and back.

Granite writes `<|tool_call|>[{"name": …, "arguments": {…}}, …]`. Source: systems.md §4.3; OpenAI's shape of a call is
{"type": "function", "function": {"name": …, "arguments": "JSON"}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MARKER = "<|tool_call|>"


class ParsedTurn(NamedTuple):
    """An assistant's turn: tool calls, each {"name", "arguments"}, or else content.

    `reason` says why a turn that starts like tool calls is none; its whole text is the content then.
    """

    calls: list[dict[str, Any]]
    content: str | None
    reason: str | None


def parse_tool_calls(text: str, marker: str = MARKER) -> ParsedTurn:
    """Read an assistant's turn.

    Args:
        text: the turn with its special tokens written out, the end token left out.
        marker: what a turn with tool calls starts with (`ChatTemplate.tool_call_marker`).
    """
    if not text.lstrip().startswith(marker):
        return ParsedTurn([], text, None)
    try:
        written = json.loads(text.lstrip().removeprefix(marker))
    except json.JSONDecodeError as error:
        return ParsedTurn([], text, f"the tool calls are not valid JSON at character {error.pos}: {error.msg}")
    except RecursionError:
        return ParsedTurn([], text, "the tool calls are nested too deeply")
    try:
        return ParsedTurn([_call(call) for call in _listed(written)], None, None)
    except ValueError as error:
        return ParsedTurn([], text, f"the tool calls are malformed: {error}")


def tool_calls_text(calls: Any) -> str:
    """Calls as JSON, each {"name", "arguments"}; they may be given so, or in OpenAI's shape.

    Raises:
        ValueError: a call is neither.
    """
    flat = [call["function"] if isinstance(call, Mapping) and "function" in call else call for call in _listed(calls)]
    return json.dumps([_call(call) for call in flat], ensure_ascii=False)


def _listed(calls: Any) -> Sequence[Any]:
    """A list of calls; one call by itself is a list of one."""
    listed = [calls] if isinstance(calls, Mapping) else calls
    if not isinstance(listed, list | tuple) or not listed:
        raise ValueError("they are not a list of calls")
    return listed


def _call(call: Any) -> dict[str, Any]:
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str) or not call["name"]:
        raise ValueError(f"a call has no name: {call!r:.80}")
    arguments = call.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except json.JSONDecodeError as error:
            raise ValueError(f"the arguments of '{call['name']}' are not valid JSON: {error.msg}") from error
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of '{call['name']}' are not an object")
    return {"name": call["name"], "arguments": dict(arguments)}
