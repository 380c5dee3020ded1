"""What languages and reasons are called on the page."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml
from babel import Locale, UnknownLocaleError

_FAMILIES = "families"


@cache
def language_name(code: str) -> str:
    """The language's name in English and in itself, and its code: "Hindi, हिन्दी (hi)"; the code where CLDR has none."""
    names = [_names(part) for part in code.split("+")]
    if not all(names):
        return code
    return f"{' + '.join(', '.join(each) for each in names)} ({code})"


def _names(code: str) -> list[str]:
    if code == "und":
        return ["undecided"]
    primary, _, script = code.partition("-")
    name = Locale("en").languages.get(primary)
    if name is None:
        return []
    if script == "Latn":
        return [f"{name} in Latin letters"]
    try:
        own = Locale(primary).languages.get(primary, name)
    except UnknownLocaleError:
        own = name
    return list(dict.fromkeys([name, own]))


def reason_words(reason: str) -> str:
    """What a reason means, in a few words; empty for one that only its own name explains."""
    words = _reasons()
    return words.get(reason, words[_FAMILIES] if "." in reason else "")


def reason_place(reason: str) -> tuple[int, str]:
    """Where a reason stands in the order of the stage."""
    order = list(_reasons())
    known = reason if reason in order else _FAMILIES if "." in reason else None
    return (len(order) if known is None else order.index(known), reason)


@cache
def _reasons() -> dict[str, str]:
    return yaml.safe_load(files("vernacular.corpus.page").joinpath("reasons.yaml").read_text(encoding="utf-8"))
