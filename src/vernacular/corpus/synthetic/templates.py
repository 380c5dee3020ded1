"""The sentence templates of a language, read from `data/LANGUAGE.yaml` and checked."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from vernacular.foundation.configuration import Configuration, read_yaml, validate

DATA = Path(__file__).parent / "data"
Several = Field(min_length=1)


class Sentences(Configuration):
    """Statements, by the kind of fact they state."""

    currency: tuple[str, ...] = Several
    languages: tuple[str, ...] = Several
    number: tuple[str, ...] = Several
    date: tuple[str, ...] = Several
    month: tuple[str, ...] = Several


class Listings(Configuration):
    """Sentences that hold a list of entries, or the entries themselves, by the kind of fact."""

    geography: tuple[str, ...] = Several
    numbers: tuple[str, ...] = Several
    dates: tuple[str, ...] = Several


class Openings(Configuration):
    """First sentences, by the kind of document."""

    geography: tuple[str, ...] = Several
    numbers: tuple[str, ...] = Several
    dates: tuple[str, ...] = Several
    mixed: tuple[str, ...] = Several
    quiz: tuple[str, ...] = Several


class Question(Configuration):
    """One kind of question: the wording that tasks use, others, short ones for a second turn, and the answer."""

    asked: str
    others: tuple[str, ...] = Several
    follow_ups: tuple[str, ...] = Several
    answer: str


class Questions(Configuration):
    """All kinds of questions."""

    numbers: Question
    digits: Question
    dates: Question
    currencies: Question
    months: Question


class Exchange(Configuration):
    """One turn of small talk."""

    user: str
    assistant: str


class Spam(Configuration):
    """What spam is made of."""

    keywords: tuple[str, ...] = Several
    lines: tuple[str, ...] = Several


class Templates(Configuration):
    """Everything the generator says in one language."""

    definite: tuple[str, ...]
    definite_article: str
    and_: str = Field(alias="and")
    sentences: Sentences
    listings: Listings
    entries: Listings
    openings: Openings
    closings: tuple[str, ...] = Several
    questions: Questions
    systems: tuple[str, ...] = Several
    small_talk: tuple[Exchange, ...] = Several
    boilerplate: tuple[str, ...] = Several
    spam: Spam

    def with_article(self, name: str) -> str:
        """`name` as it stands within a sentence: "the Netherlands" where the language asks for an article."""
        return f"{self.definite_article} {name}" if name in self.definite else name

    def enumerate(self, names: tuple[str, ...]) -> str:
        """As a list within a sentence: "a, b and c"."""
        if len(names) < 2:
            return "".join(names)
        return f"{', '.join(names[:-1])} {self.and_} {names[-1]}"


class OtherLanguage(Configuration):
    """A language that the corpus does not ask for."""

    opening: str
    sentences: tuple[str, ...] = Several


class OtherLanguages(Configuration):
    """The languages in `data/others.yaml`."""

    de: OtherLanguage
    cs: OtherLanguage
    es: OtherLanguage
    mr: OtherLanguage
    ta: OtherLanguage
    uk: OtherLanguage


@cache
def templates(language: str) -> Templates:
    """The templates of `language`, in Unicode NFC; a missing or unknown key is a `UserError` naming file and line."""
    document = read_yaml(DATA / f"{language}.yaml")
    return validate(Templates, _normalised(document.value), document)


@cache
def other_languages() -> OtherLanguages:
    """The templates for text in a wrong language."""
    document = read_yaml(DATA / "others.yaml")
    return validate(OtherLanguages, _normalised(document.value), document)


def _normalised(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [_normalised(item) for item in value]
    if isinstance(value, dict):
        return {key: _normalised(item) for key, item in value.items()}
    return value
