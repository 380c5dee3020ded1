"""Encoding: bytes read as what they are not."""

from __future__ import annotations

from random import Random

from vernacular.corpus.quality.damage.kind import characters, kind, words

_PRIVATE_USE = range(0xE000, 0xF8FF)


@kind("encoding")
def misread_bytes(text: str, language: str, share: float, random: Random) -> str:
    """UTF-8 read as a single-byte encoding, some bytes lost, so that nothing turns it back."""
    encoding = random.choice(("cp1252", "cp1250", "latin-1", "cp437"))

    def misread(word: str) -> str:
        raw = bytes(byte for byte in word.encode() if byte < 0x80 or random.random() > 0.05)
        return raw.decode(encoding, errors="ignore")

    return words(text, share, random, misread)


@kind("encoding")
def replacement_characters(text: str, language: str, share: float, random: Random) -> str:
    """Letters that could not be decoded."""
    return characters(text, 0.5 * share, random, lambda _: "\N{REPLACEMENT CHARACTER}", str.isalpha)


@kind("encoding")
def question_marks(text: str, language: str, share: float, random: Random) -> str:
    """Letters outside an encoding, each a question mark; in English any letter, else nothing would happen."""
    ascii_only = text.isascii()
    return characters(
        text, share, random, lambda _: "?", lambda one: one.isalpha() and (ascii_only or not one.isascii())
    )


@kind("encoding")
def private_glyphs(text: str, language: str, share: float, random: Random) -> str:
    """A font's own code points, as PDF files give them."""
    glyphs = [chr(code) for code in random.sample(_PRIVATE_USE, 30)]
    return characters(text, 0.6 * share, random, lambda _: random.choice(glyphs), str.isalpha)


@kind("encoding")
def escaped(text: str, language: str, share: float, random: Random) -> str:
    r"""Escapes where letters stood: \u0105, %C4%85, &#261;."""
    way = random.choice(("\\u{0:04x}", "&#{0};", "%"))

    def escape(word: str) -> str:
        if way == "%":
            return "".join(f"%{byte:02X}" for byte in word.encode())
        return "".join(way.format(ord(one)) if one.isalpha() else one for one in word)

    return words(text, 0.6 * share, random, escape)
