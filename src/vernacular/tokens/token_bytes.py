"""The bytes that each token of a vocabulary stands for."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from vernacular.foundation.errors import UserError
from vernacular.tokens.byte_alphabet import letters, read, spell
from vernacular.tokens.tokenizer import Tokenizer

_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
_BLANK = "\u2581"


class Writing(NamedTuple):
    """How a vocabulary writes its tokens.

    Attributes:
        name: "byte-level" (GPT-2's alphabet, a letter a byte) or "sentencepiece" (▁ for a blank, `<0x0A>` for a byte).
        read: the bytes that a token as it is written stands for.
        write: bytes as a string of that alphabet; None where the vocabulary has none for them (half a character).
    """

    name: str
    read: Callable[[str], bytes]
    write: Callable[[bytes], str | None]


@lru_cache(maxsize=4)
def token_bytes(tokenizer: Tokenizer) -> tuple[bytes, ...]:
    """UTF-8 bytes by token id; nothing for control tokens and for ids that stand for no token.

    A token may hold a part of a character: byte-level tokenizers cut where they like.

    Raises:
        UserError: the vocabulary is written neither byte by byte (GPT-2's alphabet) nor as SentencePiece writes it.
    """
    content_of = writing_of(tokenizer).read
    texts = [tokenizer.token_text(token_id) for token_id in range(tokenizer.vocab_size)]
    controls = set(tokenizer.control_tokens)
    return tuple(b"" if text is None or text in controls else content_of(text) for text in texts)


def writing_of(tokenizer: Tokenizer) -> Writing:
    """How this tokenizer's vocabulary writes its tokens; one that is written in neither way is refused."""
    texts = [tokenizer.token_text(token_id) for token_id in range(tokenizer.vocab_size)]
    controls = set(tokenizer.control_tokens)
    plain = {text for text in texts if text is not None and text not in controls}
    if all(letter in plain for letter in letters()):
        return BYTE_LEVEL
    if any(_BLANK in text for text in plain):
        return SENTENCEPIECE
    raise UserError(
        "the vocabulary is written neither byte by byte nor as SentencePiece writes it, so the bytes of a token "
        "are not known",
        where=tokenizer.where,
        fix="use a byte-level or a SentencePiece tokenizer, or do without a schema or grammar",
    )


def _read_byte_level(text: str) -> bytes:
    content = read(text)
    return text.encode("utf-8") if content is None else content  # an added token is written as it is


def _read_sentencepiece(text: str) -> bytes:
    fallback = _FALLBACK.fullmatch(text)
    return bytes([int(fallback[1], 16)]) if fallback else text.replace(_BLANK, " ").encode("utf-8")


def _write_sentencepiece(content: bytes) -> str | None:
    try:
        return content.decode("utf-8").replace(" ", _BLANK)
    except UnicodeDecodeError:
        return None


BYTE_LEVEL = Writing("byte-level", _read_byte_level, spell)
SENTENCEPIECE = Writing("sentencepiece", _read_sentencepiece, _write_sentencepiece)
