"""Prompts to tokens, exactly as lm-evaluation-harness's Hugging Face path encodes them.

Every sequence starts with what the tokenizer puts first (the begin token, once, or nothing). A text that starts with a
control token, or as the model's chat template starts, is a rendered chat, as the harness passes it: all its control
tokens are read as such. In every other text they are letters like any others. A chat that a person takes part in goes
through `ChatTemplate.encode` instead, which never reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vernacular.foundation.errors import UserError
from vernacular.tokens.tokenizer import Tokenizer


class TokenPair(NamedTuple):
    """A continuation's tokens, and those before it (at least one)."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


def encode_prompts(tokenizer: Tokenizer, texts: Sequence[str], *, openings: Sequence[str] = ()) -> list[list[int]]:
    """Token ids of each text, `begin_ids` first.

    Args:
        tokenizer: the tokenizer.
        texts: prompts.
        openings: how the model's chat template starts (`ChatTemplate.openings`), where its tags are plain text.
    """
    is_rendered = [_is_rendered(tokenizer, text, openings) for text in texts]
    encoded = {
        special: iter(
            tokenizer.encode_batch(
                [text for text, rendered in zip(texts, is_rendered, strict=True) if rendered is special],
                begin=True,
                special=special,
            )
        )
        for special in set(is_rendered)
    }
    return [next(encoded[rendered]) for rendered in is_rendered]


def encode_pairs(
    tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], *, openings: Sequence[str] = ()
) -> list[TokenPair]:
    """Tokens of each (context, continuation).

    White space at the end of a context counts to the continuation. Context and continuation are encoded in one, and
    the continuation's tokens are those after as many as the context alone has. Before them stand the context's own,
    also where its last letters and the continuation's first would be one token. For an empty context stands the
    tokenizer's `begin_id`.
    """
    moved = [_move_space(context, continuation) for context, continuation in pairs]
    texts = [text for context, rest in moved for text in ((context, context + rest) if context else (rest,))]
    ids_of = _encode_distinct(tokenizer, texts, openings)
    encoded = []
    for number, (context, rest) in enumerate(moved):
        whole = ids_of[context + rest]
        before = ids_of.get(context, [])
        pair = TokenPair(tuple(before), tuple(whole[len(before) :])) if context else _after_nothing(tokenizer, whole)
        if not pair.continuation or not pair.context:
            raise UserError(
                f"the continuation {pairs[number][1]!r} has no tokens of its own after its context",
                where=f"pair {number + 1} of {len(pairs)}",
                fix="give a continuation that is not empty and does not merge into the context's last token",
            )
        encoded.append(pair)
    return encoded


def _is_rendered(tokenizer: Tokenizer, text: str, openings: Sequence[str]) -> bool:
    pattern = tokenizer.control_pattern
    return (pattern is not None and pattern.match(text) is not None) or text.startswith(tuple(openings))


def _split(whole: Sequence[int], place: int) -> TokenPair:
    return TokenPair(tuple(whole[:place]), tuple(whole[place:]))


def _after_nothing(tokenizer: Tokenizer, whole: Sequence[int]) -> TokenPair:
    """The pair of a text alone. Where it writes the begin token itself, that one is the context."""
    first = list(tokenizer.begin_ids)
    alone = list(whole[len(first) :]) if first and list(whole[: len(first)]) == first else list(whole)
    return _split(alone if alone[:1] == [tokenizer.begin_id] else [tokenizer.begin_id, *alone], 1)


def _move_space(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _encode_distinct(tokenizer: Tokenizer, texts: Iterable[str], openings: Sequence[str]) -> dict[str, list[int]]:
    distinct = list(dict.fromkeys(texts))
    return dict(zip(distinct, encode_prompts(tokenizer, distinct, openings=openings), strict=True))
