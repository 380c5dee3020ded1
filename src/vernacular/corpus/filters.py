"""The rules that remove documents, each a measure with bounds; the first that is broken gives the reason.

Our own rules (family `general`) come first, then the published families that the recipe names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vernacular.corpus.configuration import Filters
from vernacular.corpus.counting.counts import Counts, count
from vernacular.corpus.families import (
    FamilyRule,
    Thresholds,
    check_rules,
    every_rule,
    family_names,
    published_thresholds,
    read_thresholds,
    rules_of,
    values_of,
)
from vernacular.corpus.languages import thresholds
from vernacular.corpus.measures import Measures, measure
from vernacular.foundation.errors import unknown_name

GENERAL = "general"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: the reason a removed document carries.
        measure: which of `Measures` it looks at.
        bound: the threshold's key in `Filters` and in data/thresholds.yaml; "minimum_…" or "maximum_…".
    """

    name: str
    measure: Callable[[Measures], np.ndarray]
    bound: str

    @property
    def is_minimum(self) -> bool:
        """Whether the measure must not fall below the bound (else: not rise above it)."""
        return self.bound.startswith("minimum_")


# In the order in which a document's reason is looked for: damage first, then what the text is like.
RULES = (
    Rule("broken_encoding", lambda measures: measures.broken, "maximum_broken"),
    Rule("too_short", lambda measures: measures.characters, "minimum_characters"),
    Rule("too_short", lambda measures: measures.words, "minimum_words"),
    Rule("too_long", lambda measures: measures.characters, "maximum_characters"),
    Rule("boilerplate", lambda measures: measures.boilerplate, "maximum_boilerplate"),
    Rule("spam", lambda measures: measures.spam, "maximum_spam"),
    Rule("repeated_lines", lambda measures: measures.repeated_lines, "maximum_repeated_lines"),
    Rule("repeated_ngrams", lambda measures: measures.repeated_ngrams, "maximum_repeated_ngrams"),
    Rule("repeated_words", lambda measures: measures.top_word, "maximum_top_word"),
    Rule("repeated_words", lambda measures: measures.variety, "minimum_variety"),
    Rule("symbols", lambda measures: measures.symbols, "maximum_symbols"),
    Rule("digits", lambda measures: measures.digits, "maximum_digits"),
    Rule("few_letters", lambda measures: measures.letters, "minimum_letters"),
    Rule("word_length", lambda measures: measures.word_length, "minimum_word_length"),
    Rule("word_length", lambda measures: measures.word_length, "maximum_word_length"),
    Rule("no_prose", lambda measures: measures.stop_words, "minimum_stop_words"),
)

RULE_NAMES = tuple(dict.fromkeys(rule.name for rule in RULES))


def check_names(settings: Filters) -> None:
    """Refuse a recipe that names a rule or a family there is not.

    Raises:
        UserError: naming the nearest; or the file of fitted thresholds is none.
    """
    known = (*RULE_NAMES, *(rule.key for rule in every_rule()))
    for name in settings.disable:
        if name not in known:
            raise unknown_name("filter rule", name, known, where="filters.disable")
    families = (GENERAL, *family_names())
    for name in settings.families:
        if name not in families:
            raise unknown_name("family of rules", name, families, where="filters.families")
    check_rules(settings.thresholds, where="filters.thresholds")
    if settings.fitted is not None:
        read_thresholds(settings.fitted)


def verdicts(
    texts: pa.Array, num_controls: np.ndarray, languages: list[str], scripts: list[str], settings: Filters
) -> tuple[list[str | None], list[str | None]]:
    """Measure and judge a batch.

    Args:
        texts: large_string [D], normalised.
        num_controls: int64 [D], control characters that normalisation dropped.
        languages: identified language of each.
        scripts: script of each.
        settings: families, thresholds and disabled rules of the recipe.

    Returns:
        Per document the reason (name of the first broken rule) and the detail ("digits 0.52 > 0.4"), or None twice.
    """
    broken = _Broken(len(languages))
    if GENERAL in settings.families:
        _judge_generally(measure(texts, num_controls, languages), languages, scripts, settings, broken)
    named = [family for family in settings.families if family != GENERAL]
    if named:
        _judge_by_families(count(texts, languages), languages, scripts, settings, named, broken)
    return broken.reasons, broken.details


def family_verdicts(
    counts: Counts, languages: list[str], scripts: list[str], settings: Filters, families: list[str]
) -> tuple[list[str | None], list[str | None]]:
    """As `verdicts`, of published families alone, from counts already made."""
    broken = _Broken(len(languages))
    _judge_by_families(counts, languages, scripts, settings, families, broken)
    return broken.reasons, broken.details


class _Broken:
    """The first rule that each of D documents broke."""

    def __init__(self, num_documents: int) -> None:
        self.reasons: list[str | None] = [None] * num_documents
        self.details: list[str | None] = [None] * num_documents

    def note(self, values: np.ndarray, limits: np.ndarray, is_minimum: bool, reason: str, measured: str) -> None:
        """Note the documents that break a rule; a measure that does not apply is NaN, and NaN breaks no bound."""
        sign = "<" if is_minimum else ">"
        for index in np.flatnonzero(values < limits if is_minimum else values > limits):
            if self.reasons[index] is None:
                self.reasons[index] = reason
                self.details[index] = f"{measured} {values[index]:.4g} {sign} {limits[index]:.4g}"


def _judge_by_families(
    counts: Counts,
    languages: list[str],
    scripts: list[str],
    settings: Filters,
    families: list[str],
    broken: _Broken,
) -> None:
    bounds = read_thresholds(settings.fitted) if settings.fitted else published_thresholds()
    bounds = Thresholds(bounds.scripts, bounds.languages, dict(settings.thresholds))
    for family in families:
        for rule in rules_of(family):
            if rule.key not in settings.disable:
                _judge_by(rule, counts, bounds, languages, scripts, broken)


def _judge_by(
    rule: FamilyRule, counts: Counts, bounds: Thresholds, languages: list[str], scripts: list[str], broken: _Broken
) -> None:
    values = values_of(rule, counts, languages)
    limits = bounds.limits(rule, languages, scripts)
    broken.note(values, limits, rule.is_minimum, rule.key, rule.measure.replace("_", " "))


def _judge_generally(
    measures: Measures, languages: list[str], scripts: list[str], settings: Filters, broken: _Broken
) -> None:
    places = list(zip(languages, scripts, strict=True))
    known = {place: _bounds(*place, settings) for place in set(places)}
    for rule in RULES:
        if rule.name not in settings.disable:
            limits = np.array([known[place][rule.bound] for place in places])
            measured = rule.bound.split("_", 1)[1].replace("_", " ")
            broken.note(rule.measure(measures).astype(np.float64), limits, rule.is_minimum, rule.name, measured)


def _bounds(language: str, script: str, settings: Filters) -> dict[str, float]:
    return {**thresholds(language, script), **settings.bounds()}
