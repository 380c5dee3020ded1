"""Languages and scripts as data: codes, which script writes which language, stop words, phrases, thresholds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from vernacular.corpus.document import UNDETERMINED_LANGUAGE
from vernacular.foundation.errors import InternalError

_CODE = re.compile(r"^[a-z]{2,3}$")


@dataclass(frozen=True)
class Script:
    """A writing system.

    Attributes:
        code: ISO 15924.
        languages: ISO 639 codes of languages written in it.
        main: the language of undecided text in it, or None; the only language of a script is its main one.
        spaces: whether words are separated by spaces.
        virama: the linker that joins two consonants into one grapheme, or None.
    """

    code: str
    languages: frozenset[str]
    main: str | None = None
    spaces: bool = True
    virama: str | None = None


@dataclass(frozen=True)
class LanguageData:
    """What the filters know of a language: word lists (lower case, NFC) and its own thresholds."""

    code: str
    stop_words: tuple[str, ...] = ()
    boilerplate: tuple[str, ...] = ()
    spam: tuple[str, ...] = ()
    policy: tuple[str, ...] = ()
    profanity: tuple[str, ...] = ()
    thresholds: dict[str, float] = field(default_factory=dict)


def canonical_language(code: str | None) -> str:
    """The ISO 639-1 code if there is one, else the ISO 639-3 code; "und" for what is no language code.

    Regions and scripts are dropped ("zh-hans" → "zh", "eng-IN" → "en"); the aliases are CLDR's ("cmn" → "zh"). A
    language in Latin letters that has a script of its own keeps them: "hin-Latn" → "hi-Latn".
    """
    from babel.core import get_global

    primary, *rest = re.split(r"[-_]", (code or "").strip().lower())
    if not _CODE.match(primary):
        return UNDETERMINED_LANGUAGE
    alias = get_global("language_aliases").get(primary, primary)
    language = str(alias).split("_")[0].lower()
    own = scripts_of(language)
    return f"{language}-Latn" if "latn" in rest and own and "Latn" not in own else language


@cache
def scripts() -> dict[str, Script]:
    """Every script of `data/scripts.yaml` by its code."""
    return {
        code: Script(
            code,
            frozenset(entry["languages"]),
            main=entry.get("main", entry["languages"][0] if len(entry["languages"]) == 1 else None),
            spaces=entry.get("spaces", True),
            virama=entry.get("virama"),
        )
        for code, entry in read_data("scripts.yaml").items()
    }


@cache
def scripts_of(language: str) -> frozenset[str]:
    """Codes of the scripts a language is written in; empty if the data does not know it."""
    return frozenset(code for code, script in scripts().items() if language in script.languages)


@cache
def language_data() -> dict[str, LanguageData]:
    """The word lists and thresholds of every language that has a file in `data/languages/`."""
    known = {}
    for entry in sorted(files("vernacular.corpus").joinpath("data/languages").iterdir(), key=lambda path: path.name):
        if entry.name.endswith(".yaml"):
            value = yaml.safe_load(entry.read_text(encoding="utf-8"))
            code = entry.name.removesuffix(".yaml")
            known[code] = LanguageData(
                code,
                stop_words=_words(value, "stop_words", code),
                boilerplate=_words(value, "boilerplate", code),
                spam=_words(value, "spam", code),
                policy=_words(value, "policy", code),
                profanity=_words(value, "profanity", code),
                thresholds=dict(value.get("thresholds") or {}),
            )
    return known


@cache
def thresholds(language: str, script: str) -> dict[str, float]:
    """The thresholds for documents of a language in a script: default, then the script's, then the language's."""
    data = read_data("thresholds.yaml")
    own = language_data().get(language)
    return {**data["default"], **data["scripts"].get(script, {}), **(own.thresholds if own else {})}


def _words(value: dict[str, Any], key: str, code: str) -> tuple[str, ...]:
    words = value.get(key) or []
    if not all(isinstance(word, str) for word in words):
        raise InternalError(f"data/languages/{code}.yaml: every entry of {key} must be a string (quote no, on, yes)")
    return tuple(words)


@cache
def read_data(name: str) -> dict[str, Any]:
    """A YAML file of `data/`."""
    return yaml.safe_load(files("vernacular.corpus").joinpath("data", name).read_text(encoding="utf-8"))
