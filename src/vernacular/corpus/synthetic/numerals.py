"""Whole numbers in words: num2words for Polish and English, a table of our own for Hindi."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

from num2words import num2words
from pydantic import Field

from vernacular.foundation.configuration import Configuration, read_yaml, validate
from vernacular.foundation.errors import unknown_name

_HINDI_FILE = Path(__file__).parent / "data" / "hindi_numbers.yaml"
LANGUAGES = ("en", "hi", "pl")


class _Unit(Configuration):
    value: int
    name: str


class HindiNumbers(Configuration):
    """The words for 0–99 and the units above them, largest first."""

    words: tuple[str, ...] = Field(min_length=100, max_length=100)
    units: tuple[_Unit, ...]


@cache
def hindi_numbers() -> HindiNumbers:
    """The table in `data/hindi_numbers.yaml`."""
    document = read_yaml(_HINDI_FILE)
    return validate(HindiNumbers, document.value, document)


@cache
def number_in_words(number: int, language: str) -> str:
    """`number` (0 to 999 999 999) written out in `language`, in Unicode NFC."""
    if language == "hi":
        return unicodedata.normalize("NFC", _in_hindi(number))
    if language not in LANGUAGES:
        raise unknown_name("language of number words", language, LANGUAGES)
    return unicodedata.normalize("NFC", str(num2words(number, lang=language)).replace(",", ""))


def _in_hindi(number: int) -> str:
    table = hindi_numbers()
    parts: list[str] = []
    for unit in table.units:
        count, number = divmod(number, unit.value)
        if count:
            parts.append(f"{_in_hindi(count)} {unit.name}")
    if number or not parts:
        parts.append(table.words[number])
    return " ".join(parts)
