"""GPT-2's alphabet, in which byte-level vocabularies are written: every byte is one printable character.

Printable characters of Latin-1 stand for themselves; the other bytes take the characters from U+0100 on, in order.
Source: Radford et al., Language Models are Unsupervised Multitask Learners (2019), as published in its vocabulary.
"""

from __future__ import annotations

from functools import cache


@cache
def letters() -> tuple[str, ...]:
    """The letter of each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in printable else chr(next(others)) for byte in range(256))


@cache
def _letter_of() -> dict[int, str]:
    return dict(enumerate(letters()))


@cache
def _byte_of() -> dict[str, int]:
    return {letter: byte for byte, letter in enumerate(letters())}


def spell(content: bytes) -> str:
    """Bytes in this alphabet."""
    return content.decode("latin-1").translate(_letter_of())


def read(text: str) -> bytes | None:
    """The bytes that a text in this alphabet stands for; None for a text that is not in it."""
    alphabet = _byte_of()
    return bytes(alphabet[letter] for letter in text) if all(letter in alphabet for letter in text) else None
