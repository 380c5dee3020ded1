"""What a language's checks know: marks, words and patterns, from `languages.yaml`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml
from pydantic import Field

from vernacular.foundation.configuration import Configuration, validate
from vernacular.foundation.errors import unknown_name


class Language(Configuration):
    """See the heading of `languages.yaml`."""

    code: str = Field(description="BCP 47")
    sentences: str
    commas: str
    periods: str
    quotes: tuple[str, ...]
    title: str
    highlight: str
    bullet: str
    section: str
    answers: tuple[str, ...]
    spaced: bool
    informal: tuple[str, ...] = ()
    formal: tuple[str, ...] = ()


@functools.cache
def table(name: str) -> Mapping[str, Any]:
    """A YAML file of this folder."""
    document: Mapping[str, Any] = yaml.safe_load((files(__package__) / name).read_text(encoding="utf-8"))
    return document


@functools.cache
def language_of(code: str) -> Language:
    """A language's facts; those common to all where it has none of its own."""
    everything = table("languages.yaml")
    return validate(Language, {"code": code, **everything["common"], **everything["languages"].get(code, {})})


def relation_of(word: str) -> str:
    """at least, at most or less than, of any language's word for it."""
    relations = table("languages.yaml")["relations"]
    if word not in relations:
        raise unknown_name("relation of an instruction", word, relations)
    return str(relations[word])
