"""Text of an Indic script in Latin letters, as people type it: by the tables of `data/romanisation.yaml`.

From it the classifier of romanised text learns. Spelling varies with the random numbers that are given.
"""

from __future__ import annotations

import random
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import regex
import yaml

_BLOCKS = range(0x0900, 0x0D80, 0x80)  # Devanagari, Bengali, Gurmukhi, … Malayalam: parallel blocks
_FIRST_SIGN, _VIRAMA, _NUKTA, _FIRST_VOWEL = 0x3E, 0x4D, 0x3C, 0x05
_WORD = regex.compile(r"[\p{L}\p{M}\u200c\u200d]+")
# Letters that no block shares: Bengali khanda ta, Gurmukhi tippi and addak, Malayalam chillus.
_OWN = {"ৎ": "त्", "ੰ": "ਂ", "ൺ": "ണ്", "ൻ": "ന്", "ർ": "ര്", "ൽ": "ല്", "ൾ": "ള്", "ൿ": "ക്", "ੱ": "", "ৰ": "র"}


@dataclass
class _Syllable:
    """A consonant, if there is one, and its vowel: None where none is said, "" where it is the inherent one."""

    consonant: str | None
    vowel: str | None
    sign: str = ""


def romanise(text: str, language: str, rng: random.Random) -> str:
    """The text with its Indic words in Latin letters, in lower case.

    Args:
        text: in the language's own script.
        language: one of `romanised_languages()`.
        rng: chooses among spellings.
    """
    table = _table(language)
    return _WORD.sub(lambda match: _spelt(match[0], table, rng), text).lower()


@cache
def romanised_languages() -> tuple[str, ...]:
    """The languages that there are tables for."""
    return tuple(_data()["languages"])


def common_words(language: str) -> list[str]:
    """Words that stand in every chat in the language (or in English), in Latin letters."""
    return list(_data()["words"].get(language, []))


@cache
def group_of(language: str) -> str:
    """The group of a language in Latin letters that is none of ours; "rest" of one that is in no other."""
    return next((group for group, members in other_groups().items() if language in members), "rest")


@cache
def other_groups() -> dict[str, list[str]]:
    """Groups of languages in Latin letters that are none of ours."""
    return dict(_data()["others"])


def _spelt(word: str, table: dict[str, Any], rng: random.Random) -> str:
    syllables = _syllables(unicodedata.normalize("NFC", "".join(_OWN.get(letter, letter) for letter in word)))
    if table["schwa"]:
        _drop_schwas(syllables)
    spelt = []
    for syllable in syllables:
        if syllable.consonant is not None:
            spelt.append(_choice(_spellings(table, syllable.consonant), rng))
        if syllable.vowel is not None:
            spelt.append(_choice(table["vowels"].get(syllable.vowel or "अ", [""]), rng))
        if syllable.sign:
            spelt.append(_choice(table["signs"].get(syllable.sign, [""]), rng))
    return "".join(spelt)


def _spellings(table: dict[str, Any], consonant: str) -> list[str]:
    """Of a letter with a nukta that the table lacks, those of the letter."""
    known = table["consonants"]
    return known.get(consonant) or known.get(consonant[0]) or [consonant]


def _choice(spellings: list[str], rng: random.Random) -> str:
    """The first spelling two times out of three."""
    return spellings[0] if len(spellings) == 1 or rng.random() < 2 / 3 else rng.choice(spellings[1:])


def _syllables(word: str) -> list[_Syllable]:
    syllables: list[_Syllable] = []
    for letter in word:
        place = ord(letter) & 0x7F
        if not any(ord(letter) in range(block, block + 0x80) for block in _BLOCKS):
            if letter not in "\u200c\u200d":
                syllables.append(_Syllable(letter, None))
        elif place in (0x01, 0x02, 0x03) and syllables:
            syllables[-1].sign = chr(0x0900 + place)
        elif place == _VIRAMA and syllables:
            syllables[-1].vowel = None
        elif place == _NUKTA and syllables and syllables[-1].consonant:
            composed = unicodedata.normalize("NFC", syllables[-1].consonant + "़")
            syllables[-1].consonant = composed if len(composed) == 1 else syllables[-1].consonant + "़"
        elif _FIRST_SIGN <= place < _VIRAMA and syllables:
            # A vowel sign stands as far behind its letter in each block.
            syllables[-1].vowel = chr(0x0900 + place - _FIRST_SIGN + 0x06)
        elif _FIRST_VOWEL <= place < 0x15:
            syllables.append(_Syllable(None, chr(0x0900 + place)))
        elif 0x15 <= place < 0x3A or 0x58 <= place < 0x60:
            syllables.append(_Syllable(chr(0x0900 + place), ""))
    return syllables


def _drop_schwas(syllables: list[_Syllable]) -> None:
    """Leave out inherent vowels that are not said: at the end, and between two syllables that have vowels."""
    if len(syllables) > 1 and syllables[-1].vowel == "" and not syllables[-1].sign:
        syllables[-1].vowel = None
    for index in range(len(syllables) - 2, 0, -1):
        inner = syllables[index]
        before, after = syllables[index - 1], syllables[index + 1]
        if inner.vowel == "" and not inner.sign and before.vowel is not None and after.vowel is not None:
            inner.vowel = None


@cache
def _table(language: str) -> dict[str, Any]:
    own = _data()["languages"][language]
    both = {name: {**_data()[name], **own.get(name, {})} for name in ("consonants", "vowels")}
    # In the block's order the letters of NFC and of composition exclusions are one: ड़ is ड and a nukta.
    consonants = {
        **both["consonants"],
        **{unicodedata.normalize("NFC", key): value for key, value in both["consonants"].items()},
    }
    return {**both, "consonants": consonants, "signs": _data()["signs"], "schwa": own.get("schwa", False)}


@cache
def _data() -> dict[str, Any]:
    return yaml.safe_load(files("vernacular.corpus").joinpath("data", "romanisation.yaml").read_text(encoding="utf-8"))
