"""The bytes that each token of a vocabulary stands for."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from vernacular.foundation.errors import UserError
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
    read = writing_of(tokenizer).read
    texts = [tokenizer.token_text(token_id) for token_id in range(tokenizer.vocab_size)]
    controls = set(tokenizer.control_tokens)
    return tuple(b"" if text is None or text in controls else read(text) for text in texts)


def writing_of(tokenizer: Tokenizer) -> Writing:
    """How this tokenizer's vocabulary writes its tokens; one that is written in neither way is refused."""
    texts = [tokenizer.token_text(token_id) for token_id in range(tokenizer.vocab_size)]
    controls = set(tokenizer.control_tokens)
    plain = {text for text in texts if text is not None and text not in controls}
    if all(letter in plain for letter in _byte_of()):
        return BYTE_LEVEL
    if any(_BLANK in text for text in plain):
        return SENTENCEPIECE
    raise UserError(
        "the vocabulary is written neither byte by byte nor as SentencePiece writes it, so the bytes of a token "
        "are not known",
        where=tokenizer.where,
        fix="use a byte-level or a SentencePiece tokenizer, or do without a schema or grammar",
    )


@lru_cache(maxsize=1)
def _byte_of() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 letters stand for themselves, the others for those from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


@lru_cache(maxsize=1)
def _letter_of() -> tuple[str, ...]:
    alphabet = {byte: letter for letter, byte in _byte_of().items()}
    return tuple(alphabet[byte] for byte in range(256))


def _read_byte_level(text: str) -> bytes:
    alphabet = _byte_of()
    if all(letter in alphabet for letter in text):
        return bytes(alphabet[letter] for letter in text)
    return text.encode("utf-8")  # a token that was added to the vocabulary is written as it is


def _write_byte_level(content: bytes) -> str:
    return "".join(_letter_of()[byte] for byte in content)


def _read_sentencepiece(text: str) -> bytes:
    fallback = _FALLBACK.fullmatch(text)
    return bytes([int(fallback[1], 16)]) if fallback else text.replace(_BLANK, " ").encode("utf-8")


def _write_sentencepiece(content: bytes) -> str | None:
    try:
        return content.decode("utf-8").replace(" ", _BLANK)
    except UnicodeDecodeError:
        return None


BYTE_LEVEL = Writing("byte-level", _read_byte_level, _write_byte_level)
SENTENCEPIECE = Writing("sentencepiece", _read_sentencepiece, _write_sentencepiece)
