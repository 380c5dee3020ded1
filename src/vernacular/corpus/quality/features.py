"""The features of a batch of documents: 93 numbers each, by arithmetic on arrays of code points and of word hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.languages import read_data
from vernacular.corpus.lexicons.lexicon import Lexicon
from vernacular.corpus.quality.anatomy import Anatomy
from vernacular.corpus.quality.groups import characters, damage, language, lines, markup, sentences, wording
from vernacular.foundation.errors import InternalError

NUM_FEATURES = 93
# The arrays of so many characters stay in the processor's cache; more at once is slower.
_CHARACTERS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Feature:
    """One feature.

    Attributes:
        name: of its column.
        group: of features of one kind.
        formula: what it is, in words.
        needs: what must be known of the language: "" (nothing), "stop_words", "lexicon" or "parts".
    """

    name: str
    group: str
    formula: str
    needs: str = ""


@cache
def catalogue() -> tuple[Feature, ...]:
    """All features, in the order of a row."""
    found = []
    for group, members in read_data("features.yaml").items():
        for name, entry in members.items():
            details = entry if isinstance(entry, dict) else {"formula": entry}
            found.append(Feature(name, group, **details))
    return tuple(found)


def measure(texts: pa.Array, languages: Sequence[str], lexicons: Mapping[str, Lexicon]) -> np.ndarray:
    """The features of a batch.

    Args:
        texts: large_string [D], normalised, no nulls.
        languages: ISO 639 code of each.
        lexicons: by language, those that are used.

    Returns:
        float32 [D, 93], a column per feature of `catalogue()`; NaN where a feature is null. A row does not depend on
        what else is in the batch.
    """
    rows = np.empty((len(texts), NUM_FEATURES), dtype=np.float32)
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    for begin, end in _batches(lengths):
        rows[begin:end] = _measure(texts.slice(begin, end - begin), list(languages[begin:end]), lexicons)
    return rows


def feature_table(texts: pa.Array, languages: Sequence[str], lexicons: Mapping[str, Lexicon]) -> pa.Table:
    """As `measure`, as an Arrow table: a float32 column per feature, null where it is null."""
    rows = measure(texts, languages, lexicons)
    columns = [pa.array(rows[:, place], mask=np.isnan(rows[:, place])) for place in range(NUM_FEATURES)]
    return pa.table(columns, names=[feature.name for feature in catalogue()])


def _batches(lengths: np.ndarray) -> list[tuple[int, int]]:
    """Consecutive documents, few enough that their characters are `_CHARACTERS_AT_ONCE` at most, or one alone."""
    bounds, begin, total = [], 0, 0
    for place, length in enumerate(lengths.tolist()):
        if place > begin and total + length > _CHARACTERS_AT_ONCE:
            bounds.append((begin, place))
            begin, total = place, 0
        total += length
    if len(lengths) > begin:
        bounds.append((begin, len(lengths)))
    return bounds


def _measure(texts: pa.Array, languages: list[str], lexicons: Mapping[str, Lexicon]) -> np.ndarray:
    anatomy = Anatomy(texts, languages)
    found: dict[str, np.ndarray] = {}
    for group in (characters, damage, wording, sentences, lines, markup):
        found |= group.measure(anatomy)
    found |= language.measure(anatomy, lexicons)
    names = [feature.name for feature in catalogue()]
    if set(found) != set(names):
        raise InternalError(f"features.yaml and the code differ: {sorted(set(found) ^ set(names))}")
    return np.stack([found[name] for name in names], axis=1)
