"""The rules that remove documents, each a measure with bounds; the first that is broken gives the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from vernacular.corpus.configuration import Filters
from vernacular.corpus.languages import thresholds
from vernacular.corpus.measures import Measures
from vernacular.foundation.errors import unknown_name


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
    """Refuse a recipe that disables a rule there is not.

    Raises:
        UserError: naming the nearest rule.
    """
    for name in settings.disable:
        if name not in RULE_NAMES:
            raise unknown_name("filter rule", name, RULE_NAMES, where="filters.disable")


def judge(
    measures: Measures, languages: list[str], scripts: list[str], settings: Filters
) -> tuple[list[str | None], list[str | None]]:
    """Decide a batch.

    Args:
        measures: of D documents.
        languages: identified language of each.
        scripts: script of each.
        settings: the recipe's thresholds and disabled rules.

    Returns:
        Per document the reason (name of the first broken rule) and the detail ("digits 0.52 > 0.4"), or None twice.
    """
    num_documents = len(languages)
    reasons: list[str | None] = [None] * num_documents
    details: list[str | None] = [None] * num_documents
    bounds = [_bounds(language, script, settings) for language, script in zip(languages, scripts, strict=True)]
    for rule in RULES:
        if rule.name in settings.disable:
            continue
        values = rule.measure(measures).astype(np.float64)
        limits = np.array([bound[rule.bound] for bound in bounds])
        # A measure that does not apply is NaN, and NaN breaks no bound.
        broken = values < limits if rule.is_minimum else values > limits
        for index in np.flatnonzero(broken):
            if reasons[index] is None:
                reasons[index] = rule.name
                sign = "<" if rule.is_minimum else ">"
                measured = rule.bound.split("_", 1)[1].replace("_", " ")
                details[index] = f"{measured} {values[index]:.4g} {sign} {limits[index]:.4g}"
    return reasons, details


@cache
def _bounds(language: str, script: str, settings: Filters) -> dict[str, float]:
    own = {key: value for key, value in settings.model_dump(exclude={"disable"}).items() if value is not None}
    return {**thresholds(language, script), **own}
