"""What an answer is, where tools were offered: text, or calls of them."""

from __future__ import annotations

from vernacular.models.language_model import Generation
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.tool_calls import ParsedTurn, parse_tool_calls


def read_turn(generation: Generation, tokenizer: Tokenizer, marker: str | None) -> ParsedTurn:
    """Calls of an answer, or its text as content.

    Args:
        generation: a finished answer. One that a stop string cut off is text.
        tokenizer: the marker is a control token, which the answer's text does not show; its ids do.
        marker: what an answer that calls tools starts with; None where no tools were offered.
    """
    if marker is None or generation.stopped_by == "stop":
        return ParsedTurn([], generation.text, None)
    ids = generation.ids[:-1] if generation.stopped_by == "end" else generation.ids
    turn = parse_tool_calls(tokenizer.decode(ids, skip_special=False), marker)
    return turn if turn.calls else ParsedTurn([], generation.text, turn.reason)
