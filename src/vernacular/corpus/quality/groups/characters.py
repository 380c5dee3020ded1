"""Characters: which kinds there are, and how evenly they are used."""

from __future__ import annotations

import numpy as np

from vernacular.corpus.codepoints import script_codes, script_table
from vernacular.corpus.quality.anatomy import Anatomy, ratio
from vernacular.corpus.quality.traits import (
    LETTERS,
    ORDINARY_PUNCTUATION,
    PUNCTUATION_TRAITS,
    SYMBOL_TRAITS,
    Trait,
)

_CODE_POINT_BITS = 21


def measure(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """The features of the group `characters`."""
    visible, num = anatomy.num_visible, anatomy.num
    cased = num(Trait.UPPER, Trait.LOWER)
    ordinary = num(*LETTERS, Trait.MARK, Trait.JOINER, Trait.DIGIT, *ORDINARY_PUNCTUATION)
    spaces = num(Trait.SPACE, Trait.NEWLINE)
    return {
        "num_characters": visible.astype(np.float64),
        "letter_ratio": ratio(num(*LETTERS), visible),
        "mark_ratio": ratio(num(Trait.MARK), visible),
        "digit_ratio": ratio(num(Trait.DIGIT), visible),
        "punctuation_ratio": ratio(num(*PUNCTUATION_TRAITS), visible),
        "symbol_ratio": ratio(num(*SYMBOL_TRAITS), visible),
        "whitespace_ratio": ratio(spaces, visible + spaces),
        "uppercase_ratio": ratio(num(Trait.UPPER), cased),
        "lowercase_ratio": ratio(num(Trait.LOWER), visible),
        "special_character_ratio": ratio(visible - ordinary, visible),
        "underscore_ratio": ratio(num(Trait.UNDERSCORE), visible),
        "greater_than_ratio": ratio(num(Trait.GREATER), visible),
        "character_entropy": _entropy(anatomy),
        "main_script_ratio": _main_script(anatomy),
        "longest_character_run": _longest_run(anatomy),
    }


def _entropy(anatomy: Anatomy) -> np.ndarray:
    """float64 [D]: bits a character, of the visible ones."""
    points = anatomy.points
    seen = anatomy.visible
    keys = np.sort((points.documents[seen] << _CODE_POINT_BITS) | points.values[seen].astype(np.int64))
    begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else np.zeros(0, dtype=np.int64)
    counts = np.diff(np.append(begins, len(keys)))
    documents = keys[begins] >> _CODE_POINT_BITS
    weighted = np.bincount(documents, weights=counts * np.log2(np.maximum(counts, 1)), minlength=anatomy.num_documents)
    total = anatomy.num_visible
    return np.log2(np.where(total > 0, total, np.nan)) - ratio(weighted, total)


def _main_script(anatomy: Anatomy) -> np.ndarray:
    """float64 [D]: share of the letters that are in the script most of them are in."""
    scripts = script_table()[anatomy.points.values]
    counts = anatomy.points.count_by(scripts, len(script_codes()))[:, 1:]
    return ratio(counts.max(axis=1), counts.sum(axis=1))


def _longest_run(anatomy: Anatomy) -> np.ndarray:
    """float64 [D]: how often the same visible character follows itself, at most, itself counted."""
    points = anatomy.points
    if not len(points.values):
        return np.full(anatomy.num_documents, np.nan)
    new = points.starts.copy()
    new[1:] |= points.values[1:] != points.values[:-1]
    begins = np.flatnonzero(new)
    lengths = np.diff(np.append(begins, len(new)))
    seen = anatomy.visible[begins]
    return anatomy.highest(points.documents[begins[seen]], lengths[seen])
