"""A rendered conversation in pieces: control tokens, and texts that are encoded by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from vernacular.foundation.errors import UserError
from vernacular.tokens.following import Rendering, Span
from vernacular.tokens.messages import ASSISTANT, Message
from vernacular.tokens.tokenizer import Follows, Tokenizer


class Piece(NamedTuple):
    """A stretch of a rendered conversation: a control token, or text that is encoded by itself.

    `weight` is the loss weight of its tokens as targets.
    """

    text: str
    is_control: bool
    weight: float


def cut_pieces(
    tokenizer: Tokenizer, rendered: Rendering, messages: Sequence[Message], lead: Callable[[Message], str]
) -> Iterator[Piece]:
    """Cut at control tokens written by the template, and where the assistant begins and ends to write.

    The latter cut makes the prompt's ids the same in training as in generation, whatever the template writes before
    the text. Other texts are encoded together with the template's words round them, as transformers does.

    Args:
        tokenizer: whose control tokens are meant.
        rendered: the conversation, followed.
        messages: the messages it was rendered from.
        lead: what the assistant writes itself before the text of one of its messages.
    """
    pending, position, weight = "", 0, 0.0
    for start, stop, number in [*rendered.spans, Span(len(rendered.text), len(rendered.text), None)]:
        answer = messages[number] if number is not None and messages[number]["role"] in ASSISTANT else None
        own = lead(answer) if answer is not None else ""
        for part, is_control in _cut_at_controls(tokenizer, rendered.text[position : start - len(own)]):
            if not is_control:
                pending += part
                continue
            if pending:
                yield Piece(pending, False, 0.0)
            yield Piece(part, True, weight)
            pending, weight = "", 0.0
        position = stop
        if answer is None:
            pending += rendered.text[start:stop]
            continue
        if pending:
            yield Piece(pending, False, 0.0)
        pending, weight = "", 1.0
        for part, is_control in _cut_at_controls(tokenizer, own):
            if is_control:
                yield Piece(part, True, 1.0)
            else:
                pending += part
        yield Piece(pending + rendered.text[start:stop], False, 1.0)
        pending = ""
    if pending:
        yield Piece(pending, False, 0.0)


def encode_pieces(
    tokenizer: Tokenizer, conversations: Sequence[Sequence[Piece]]
) -> list[tuple[list[int], list[float]]]:
    """Ids and loss weights of conversations in pieces, all texts encoded in one batch on all cores."""
    texts: list[str] = []
    follows: list[Follows] = []
    for pieces in conversations:
        before: Follows = "nothing"
        for piece in pieces:
            if not piece.is_control:
                texts.append(piece.text)
                follows.append(before)
            before = "control" if piece.is_control else "text"
    encoded = iter(tokenizer.encode_parts(texts, follows))
    result = []
    for pieces in conversations:
        ids: list[int] = []
        weights: list[float] = []
        for piece in pieces:
            piece_ids = [tokenizer.control_tokens[piece.text].id] if piece.is_control else next(encoded)
            ids += piece_ids
            weights += [piece.weight] * len(piece_ids)
        result.append((ids, weights))
    return result


def _cut_at_controls(tokenizer: Tokenizer, literal: str) -> Iterator[tuple[str, bool]]:
    pattern = tokenizer.control_pattern
    cut = pattern.split(literal) if pattern is not None else [literal]
    for number, part in enumerate(cut):
        is_control = number % 2 == 1
        if is_control and tokenizer.control_tokens[part].swallows_blanks:
            raise UserError(
                f"the special token {part} swallows the blanks beside it, so the text round it would not come back",
                where=f"{tokenizer.where}/tokenizer.json (added_tokens)",
                fix="set lstrip and rstrip of the token to false",
            )
        if part:
            yield part, is_control
