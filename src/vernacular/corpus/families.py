"""Families of published rules, as data: each rule a measure with a bound, its thresholds per script and language.

`data/rules/FAMILY.yaml` names the source, the rules and their thresholds; `filters.families` of a recipe chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vernacular.corpus.counting.counts import Counts
from vernacular.foundation.errors import InternalError, UserError, unknown_name

Measure = Callable[[Counts], np.ndarray]


def _share(part: str, whole: str) -> Measure:
    return lambda counts: counts.share(part, whole)


def _number(name: str) -> Measure:
    return lambda counts: counts[name].astype(np.float64)


def _without_line_ends(counts: Counts) -> np.ndarray:
    return counts["repeated_line_characters"] / np.maximum(counts["characters"] - counts["newlines"], 1)


# Every measure a rule may have, per document.
MEASURES: dict[str, Measure] = {
    "words": _number("words"),
    "prose_sentences": _number("prose_sentences"),
    "prose_braces": _number("prose_braces"),
    "filler": _number("filler"),
    "profanities": _number("profanities"),
    "long_lines": _number("long_lines_200"),
    "stop_word_kinds": _number("distinct_stop_words"),
    "letters": lambda counts: (
        (counts["letters"] + counts["marks"] + counts["joiners"]) / np.maximum(counts["visible"], 1)
    ),
    "mean_word_length": _share("word_graphemes", "words"),
    "hashes_per_token": _share("hashes", "tokens"),
    "ellipses_per_token": _share("ellipses", "tokens"),
    "newlines_per_token": _share("newlines", "tokens"),
    "tokens_with_letters": _share("words_with_letter", "tokens"),
    "bullet_lines": _share("bullet_lines", "lines"),
    "ellipsis_lines": _share("ellipsis_lines", "lines"),
    "terminal_lines": _share("terminal_lines", "lines"),
    "short_lines": _share("short_lines_30", "lines"),
    "duplicate_lines": _share("repeated_lines", "lines"),
    "duplicate_line_characters": _share("repeated_line_characters", "characters"),
    "duplicate_line_characters_no_ends": _without_line_ends,
    "duplicate_paragraphs": _share("repeated_paragraphs", "paragraphs"),
    "duplicate_paragraph_characters": _share("repeated_paragraph_characters", "characters"),
    **{f"top_{size}_gram": _share(f"top_{size}_grams", "characters") for size in (2, 3, 4)},
    **{f"duplicate_{size}_grams": _share(f"repeated_{size}_grams", "characters") for size in range(5, 11)},
}
_FIX = "make it with `vernacular fit-thresholds`"
# Measures that say nothing of a language without a list of its own.
_NEED_STOP_WORDS = ("stop_word_kinds",)


@dataclass(frozen=True)
class FamilyRule:
    """One rule of a family: `measure` must not fall below `bound` (is_minimum) or not rise above it."""

    family: str
    name: str
    measure: str
    is_minimum: bool
    bound: float

    @property
    def key(self) -> str:
        """What a removed document's reason and a recipe's threshold call it: "gopher_quality.too_few_words"."""
        return f"{self.family}.{self.name}"


@dataclass(frozen=True)
class Thresholds:
    """Bounds by rule (`FamilyRule.key`), then by script and language, and a recipe's own, which win.

    Attributes:
        scripts: script → key → bound.
        languages: language → key → bound.
        own: key → bound.
    """

    scripts: dict[str, dict[str, float]] = field(default_factory=dict)
    languages: dict[str, dict[str, float]] = field(default_factory=dict)
    own: dict[str, float] = field(default_factory=dict)

    def limits(self, rule: FamilyRule, languages: list[str], scripts: list[str]) -> np.ndarray:
        """float64 [D]: the rule's bound for each document."""
        known: dict[tuple[str, str], float] = {}
        for place in set(zip(languages, scripts, strict=True)):
            bound = self.scripts.get(place[1], {}).get(rule.key, rule.bound)
            bound = self.languages.get(place[0], {}).get(rule.key, bound)
            known[place] = self.own.get(rule.key, bound)
        return np.array([known[place] for place in zip(languages, scripts, strict=True)], dtype=np.float64)


@cache
def family_names() -> tuple[str, ...]:
    """The families there are: the files of `data/rules/`."""
    names = (entry.name for entry in files("vernacular.corpus").joinpath("data/rules").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


@cache
def rules_of(family: str) -> tuple[FamilyRule, ...]:
    """The rules of a family, in the order in which they are looked at."""
    rules = []
    for name, entry in _family(family)["rules"].items():
        bounds = [key for key in ("minimum", "maximum") if key in entry]
        if len(bounds) != 1 or entry["measure"] not in MEASURES:
            raise InternalError(f"data/rules/{family}.yaml: '{name}' needs a known measure and one bound")
        rules.append(FamilyRule(family, name, entry["measure"], bounds[0] == "minimum", float(entry[bounds[0]])))
    return tuple(rules)


def every_rule() -> tuple[FamilyRule, ...]:
    """The rules of all families."""
    return tuple(rule for family in family_names() for rule in rules_of(family))


def published_thresholds() -> Thresholds:
    """The thresholds per script and language that stand in `data/rules/`."""
    return _merged({family: _family(family) for family in family_names()})


def read_thresholds(path: str | Path) -> Thresholds:
    """Thresholds that `vernacular fit-thresholds` wrote, over the published ones.

    Raises:
        UserError: the file is not there, no such file, or names a rule that is none.
    """
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError("the file cannot be read", where=path, fix="check `filters.fitted`") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"not valid YAML: {error}", where=path, fix="make it with `vernacular fit-thresholds`"
        ) from error
    if not isinstance(value, dict) or not isinstance(value.get("languages"), dict):
        raise UserError("no thresholds by language in it", where=path, fix=_FIX)
    fitted: dict[str, dict[str, float]] = {}
    for language, bounds in value["languages"].items():
        check_rules(bounds, where=f"{path}: languages.{language}")
        fitted[str(language)] = {key: float(bound) for key, bound in bounds.items()}
    base = published_thresholds()
    languages = {code: {**base.languages.get(code, {}), **fitted.get(code, {})} for code in {*base.languages, *fitted}}
    return Thresholds(base.scripts, languages)


def check_rules(names: Iterable[str], *, where: str) -> None:
    """Refuse what is no rule ("gopher_quality.too_few_words"), naming the nearest."""
    known = [rule.key for rule in every_rule()]
    for name in names:
        if name not in known:
            raise unknown_name("rule", name, known, where=where)


def values_of(rule: FamilyRule, counts: Counts, languages: list[str]) -> np.ndarray:
    """float64 [D]: the rule's measure of each document; NaN where it says nothing."""
    values = MEASURES[rule.measure](counts).astype(np.float64)
    if rule.measure in _NEED_STOP_WORDS:
        from vernacular.corpus.languages import language_data

        listed = {code for code, data in language_data().items() if data.stop_words}
        values[[language not in listed for language in languages]] = np.nan
    return values


def _merged(families: dict[str, dict[str, Any]]) -> Thresholds:
    merged = Thresholds()
    for family, value in families.items():
        for key, into in (("scripts", merged.scripts), ("languages", merged.languages)):
            for place, bounds in value.get(key, {}).items():
                keys = {f"{family}.{name}": float(bound) for name, bound in bounds.items()}
                check_rules(keys, where=f"data/rules/{family}.yaml: {key}.{place}")
                into.setdefault(str(place), {}).update(keys)
    return merged


@cache
def _family(family: str) -> dict[str, Any]:
    return yaml.safe_load(files("vernacular.corpus").joinpath("data/rules", f"{family}.yaml").read_text("utf-8"))
