"""Damage: what decoding, recognition and copying leave behind."""

from __future__ import annotations

import numpy as np

from vernacular.corpus.codepoints import script_table
from vernacular.corpus.normalisation import num_mojibake
from vernacular.corpus.quality.anatomy import Anatomy, ratio
from vernacular.corpus.quality.traits import LETTERS, PUNCTUATION_TRAITS, Trait

_DOTTED_CIRCLE = 0x25CC
_WORD_TRAITS = (*LETTERS, Trait.MARK, Trait.DIGIT, Trait.JOINER)
# Hyphens and apostrophes stand within words in every language that has them; a dot stands in figures and addresses.
_WITHIN_WORDS = (Trait.DASH, Trait.APOSTROPHE, Trait.QUESTION)
# Marks of these code points sit on a base of their own script: Devanagari to Thai.
_FIRST_INDIC, _LAST_INDIC = 0x0900, 0x0E80


def measure(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """The features of the group `damage`."""
    visible, num_words = anatomy.num_visible, anatomy.num_words
    return {
        "replacement_ratio": ratio(anatomy.num(Trait.REPLACEMENT), visible),
        "control_ratio": ratio(anatomy.num(Trait.CONTROL), visible),
        "orphan_mark_ratio": ratio(_orphan_marks(anatomy), visible),
        "stacked_mark_ratio": ratio(_stacked_marks(anatomy), visible),
        "question_in_word_ratio": ratio(_between_letters(anatomy, (Trait.QUESTION,)), num_words),
        "mojibake_ratio": ratio(num_mojibake(anatomy.texts), num_words),
        "digit_in_word_ratio": ratio(_digits_with_letters(anatomy), num_words),
        "punctuation_in_word_ratio": ratio(
            _between_letters(anatomy, [one for one in PUNCTUATION_TRAITS if one not in _WITHIN_WORDS]), num_words
        ),
        "mixed_script_word_ratio": ratio(_mixed_scripts(anatomy), num_words),
    }


def _marks(anatomy: Anatomy) -> np.ndarray:
    values = anatomy.points.values
    positions = np.flatnonzero(anatomy.traits == Trait.MARK)
    return positions[(values[positions] >= _FIRST_INDIC) & (values[positions] < _LAST_INDIC)]


def _orphan_marks(anatomy: Anatomy) -> np.ndarray:
    """int64 [D]: marks after anything that cannot carry one, and dotted circles, which show that one could not."""
    marks = _marks(anatomy)
    carried = np.isin(anatomy.trait_before(marks), (*LETTERS, Trait.MARK, Trait.JOINER))
    circles = np.flatnonzero(anatomy.points.values == _DOTTED_CIRCLE)
    return anatomy.count_at(marks[~carried]) + anatomy.count_at(circles)


def _stacked_marks(anatomy: Anatomy) -> np.ndarray:
    """int64 [D]: marks after the same mark: no script doubles one."""
    marks = _marks(anatomy)
    marks = marks[~anatomy.points.starts[marks]]
    return anatomy.count_at(marks[anatomy.points.values[marks] == anatomy.points.values[marks - 1]])


def _between_letters(anatomy: Anatomy, traits: tuple[Trait, ...] | list[Trait]) -> np.ndarray:
    """int64 [D]: characters of the traits with a letter or mark right before and a letter right after."""
    positions = np.flatnonzero(anatomy.is_any(traits))
    before = np.isin(anatomy.trait_before(positions), (*LETTERS, Trait.MARK))
    after = np.isin(anatomy.trait_after(positions), LETTERS)
    return anatomy.count_at(positions[before & after])


def _digits_with_letters(anatomy: Anatomy) -> np.ndarray:
    """int64 [D]: words that hold a digit after a letter."""
    digits = np.flatnonzero(anatomy.traits == Trait.DIGIT)
    return anatomy.count_at(digits[np.isin(anatomy.trait_before(digits), (*LETTERS, Trait.MARK))])


def _mixed_scripts(anatomy: Anatomy) -> np.ndarray:
    """float64 [D]: places within words where a letter of one script follows a letter of another."""
    scripts = script_table()[anatomy.points.values]
    changes = np.flatnonzero(scripts[1:] != scripts[:-1]) + 1
    both = (scripts[changes] > 0) & (scripts[changes - 1] > 0) & ~anatomy.points.starts[changes]
    # Scripts without spaces, as Japanese, change from one to the other in the middle of what looks like a word.
    changes = changes[both & ~anatomy.points.word_starts[changes]]
    return anatomy.count_at(changes)
