"""Prompts to tokens, exactly as lm-evaluation-harness's Hugging Face path encodes them.

Every sequence starts with the begin token, once. In a text that starts with the begin token's own text (a rendered
chat, as the harness passes it) all control tokens are read as such; in every other text they are letters like any
others. A chat that a person takes part in goes through `ChatTemplate.encode` instead, which never reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vernacular.foundation.errors import UserError
from vernacular.tokens.tokenizer import Tokenizer


class TokenPair(NamedTuple):
    """A continuation's tokens, and those before it (at least the begin token)."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


def encode_prompts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, the begin token first."""
    begin = tokenizer.begin_token
    rendered = [text for text in texts if text.startswith(begin)]
    plain = [text for text in texts if not text.startswith(begin)]
    ids_of_rendered = iter(tokenizer.encode_batch(rendered, special=True) if rendered else [])
    ids_of_plain = iter(tokenizer.encode_batch(plain, begin=True) if plain else [])
    return [next(ids_of_rendered if text.startswith(begin) else ids_of_plain) for text in texts]


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[TokenPair]:
    """Tokens of each (context, continuation).

    White space at the end of a context counts to the continuation. Context and continuation are encoded in one, and
    the continuation's tokens are those after as many as the context alone has. An empty context is the begin token.
    """
    moved = [_move_space(context, continuation) for context, continuation in pairs]
    ids_of = _encode_distinct(tokenizer, [text for context, rest in moved for text in (context, context + rest)])
    encoded = []
    for number, (context, rest) in enumerate(moved):
        before = ids_of[context]
        pair = TokenPair(tuple(before), tuple(ids_of[context + rest][len(before) :]))
        if not pair.continuation:
            raise UserError(
                f"the continuation {pairs[number][1]!r} has no tokens of its own after its context",
                where=f"pair {number + 1} of {len(pairs)}",
                fix="give a continuation that is not empty and does not merge into the context's last token",
            )
        encoded.append(pair)
    return encoded


def _move_space(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _encode_distinct(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, list[int]]:
    distinct = list(dict.fromkeys(texts))
    return dict(zip(distinct, encode_prompts(tokenizer, distinct), strict=True))
