"""Traits of code points: a finer division than their classes, so that one histogram answers for many features."""

from __future__ import annotations

import unicodedata
from enum import IntEnum
from functools import cache

import numpy as np
import regex

from vernacular.corpus.codepoints import (
    CONTROL,
    DIGIT,
    JOINER,
    LETTER,
    MARK,
    PRIVATE,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    UNASSIGNED,
    class_table,
    every_character,
)

_ALL = 0x110000
_SURROGATES = range(0xD800, 0xE000)
# Precomposed letters lie below this; beyond are Hangul, ideographs and compatibility forms.
_LAST_PRECOMPOSED = 0x2000


class Trait(IntEnum):
    """What a code point is to the features."""

    OTHER = 0
    UPPER = 1
    LOWER = 2
    CASELESS = 3
    MARK = 4
    DIGIT = 5
    SPACE = 6
    NEWLINE = 7
    TERMINAL = 8
    QUESTION = 9
    EXCLAMATION = 10
    ELLIPSIS = 11
    COMMA = 12
    COLON = 13
    QUOTE = 14
    APOSTROPHE = 15
    OPENING = 16
    CLOSING = 17
    DASH = 18
    UNDERSCORE = 19
    OTHER_PUNCTUATION = 20
    GREATER = 21
    LESS = 22
    PIPE = 23
    EMOJI = 24
    SYMBOL = 25
    REPLACEMENT = 26
    CONTROL = 27
    JOINER = 28


LETTERS = (Trait.UPPER, Trait.LOWER, Trait.CASELESS)
ENDS = (Trait.TERMINAL, Trait.QUESTION, Trait.EXCLAMATION, Trait.ELLIPSIS)
ORDINARY_PUNCTUATION = (
    *ENDS,
    Trait.COMMA,
    Trait.COLON,
    Trait.QUOTE,
    Trait.APOSTROPHE,
    Trait.OPENING,
    Trait.CLOSING,
    Trait.DASH,
)
PUNCTUATION_TRAITS = (*ORDINARY_PUNCTUATION, Trait.UNDERSCORE, Trait.OTHER_PUNCTUATION)
SYMBOL_TRAITS = (Trait.GREATER, Trait.LESS, Trait.PIPE, Trait.EMOJI, Trait.SYMBOL)

_BY_CLASS = {
    MARK: Trait.MARK,
    DIGIT: Trait.DIGIT,
    SPACE: Trait.SPACE,
    PUNCTUATION: Trait.OTHER_PUNCTUATION,
    SYMBOL: Trait.SYMBOL,
    CONTROL: Trait.CONTROL,
    PRIVATE: Trait.CONTROL,
    UNASSIGNED: Trait.CONTROL,
    JOINER: Trait.JOINER,
    LETTER: Trait.CASELESS,
}
# Later lines win. Properties of the Unicode Standard where it has one, characters by hand where it has none.
_BY_PATTERN = {
    Trait.UPPER: r"[\p{Lu}\p{Lt}]",
    Trait.LOWER: r"\p{Ll}",
    Trait.EMOJI: r"[\p{Emoji_Presentation}\p{Extended_Pictographic}--[\p{ASCII}©®™]]",
    Trait.OPENING: r"\p{Ps}",
    Trait.CLOSING: r"\p{Pe}",
    Trait.DASH: r"\p{Pd}",
    Trait.QUOTE: r"[\p{Pi}\p{Pf}\"„‚「」『』]",
    Trait.APOSTROPHE: r"['’ʼ]",
    Trait.COMMA: r"[,،﹐，、､፣՝߸᠂]",
    Trait.COLON: r"[:：;；؛]",
    Trait.TERMINAL: r"\p{Sentence_Terminal}",
    Trait.QUESTION: r"[?？؟՞፧⸮]",
    Trait.EXCLAMATION: r"[!！՜]",
    Trait.ELLIPSIS: r"[…⋯]",
    Trait.UNDERSCORE: "_",
    Trait.GREATER: ">",
    Trait.LESS: "<",
    Trait.PIPE: r"\|",
    Trait.REPLACEMENT: "\ufffd",
    Trait.NEWLINE: "\n",
}


@cache
def trait_table() -> np.ndarray:
    """uint8 [0x110000]: the `Trait` of each code point."""
    classes = class_table()
    table = np.zeros(_ALL, dtype=np.uint8)
    for kind, trait in _BY_CLASS.items():
        table[classes == kind] = trait
    everything = every_character()
    for trait, pattern in _BY_PATTERN.items():
        for match in regex.finditer(f"(?V1)(?:{pattern})+", everything):
            table[match.start() : match.end()] = trait
    table[_SURROGATES.start : _SURROGATES.stop] = Trait.OTHER
    return table


@cache
def diacritic_table() -> np.ndarray:
    """bool [0x110000]: letters that are a base with a mark, as ą, é, ज़ (canonical decomposition)."""
    table = np.zeros(_ALL, dtype=bool)
    for code in range(_LAST_PRECOMPOSED):
        parts = unicodedata.decomposition(chr(code)).split()
        table[code] = len(parts) == 2 and unicodedata.combining(chr(int(parts[1], 16))) > 0
    return table
