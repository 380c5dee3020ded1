"""Markup: Markdown's, and what is left of pages, tables and messages."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from vernacular.corpus.quality.anatomy import Anatomy, ratio
from vernacular.corpus.quality.traits import LETTERS, Trait

_BULLETS = [ord(mark) for mark in "-*+•·‣▪●○"]
_LINKS = ("://", "www.", "](")


def measure(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """The features of the group `markup`."""
    values = anatomy.points.values
    full, first = _line_heads(anatomy)
    number = np.bincount(anatomy.lines.documents[full], minlength=anatomy.num_documents)
    spaced = anatomy.trait_after(first) == Trait.SPACE
    return {
        "heading_ratio": ratio(anatomy.count_at(first[values[first] == ord("#")]), number),
        "bullet_ratio": ratio(anatomy.count_at(first[np.isin(values[first], _BULLETS) & spaced]), number),
        "ordered_item_ratio": ratio(anatomy.count_at(first[_numbered(anatomy, first)]), number),
        "link_ratio": ratio(_links(anatomy), anatomy.num_words),
        "code_ratio": ratio(anatomy.count_at(np.flatnonzero(values == ord("`"))), anatomy.num_visible),
        "pipe_ratio": ratio(anatomy.num(Trait.PIPE), anatomy.num_visible),
        "table_misalignment": _misaligned_rows(anatomy),
        "tag_ratio": ratio(_tags(anatomy), anatomy.num_words),
        "entity_ratio": ratio(_entities(anatomy), anatomy.num_words),
        "emoji_ratio": ratio(anatomy.num(Trait.EMOJI), anatomy.num_visible),
    }


def _line_heads(anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """int64 twice: the lines that are not empty, and the position of the first visible character of each."""
    full = np.flatnonzero(anatomy.lines.count(anatomy.visible) > 0)
    seen = np.flatnonzero(anatomy.visible)
    return full, seen[np.searchsorted(seen, anatomy.lines.starts[full])]


def _numbered(anatomy: Anatomy, first: np.ndarray) -> np.ndarray:
    """bool: whether a line begins with one or two digits and then a full stop or bracket."""
    digit = anatomy.traits[first] == Trait.DIGIT
    last = len(anatomy.traits) - 1
    second, third = (np.minimum(first + step, last) for step in (1, 2))
    closes = np.isin(anatomy.traits, (Trait.TERMINAL, Trait.CLOSING))
    return digit & (closes[second] | ((anatomy.traits[second] == Trait.DIGIT) & closes[third]))


def _links(anatomy: Anatomy) -> np.ndarray:
    counts = [pc.count_substring(anatomy.texts, mark).to_numpy(zero_copy_only=False) for mark in _LINKS]
    return np.sum(counts, axis=0)


def _tags(anatomy: Anatomy) -> np.ndarray:
    """int64 [D]: "<" before a letter, a slash or an exclamation mark."""
    less = np.flatnonzero(anatomy.traits == Trait.LESS)
    after = anatomy.trait_after(less)
    slash = anatomy.points.values[np.minimum(less + 1, len(anatomy.traits) - 1)] == ord("/")
    return anatomy.count_at(less[np.isin(after, (*LETTERS, Trait.EXCLAMATION)) | slash])


def _entities(anatomy: Anatomy) -> np.ndarray:
    """int64 [D]: "&" before a letter or a number sign."""
    ampersands = np.flatnonzero(anatomy.points.values == ord("&"))
    number_sign = anatomy.points.values[np.minimum(ampersands + 1, len(anatomy.traits) - 1)] == ord("#")
    return anatomy.count_at(ampersands[np.isin(anatomy.trait_after(ampersands), LETTERS) | number_sign])


def _misaligned_rows(anatomy: Anatomy) -> np.ndarray:
    """float64 [D]: of the lines with a pipe or tab that follow another, the share with another number of them."""
    cells = anatomy.lines.count((anatomy.traits == Trait.PIPE) | (anatomy.points.values == ord("\t")))
    documents = anatomy.lines.documents
    row = (cells[1:] > 0) & (cells[:-1] > 0) & (documents[1:] == documents[:-1])
    ragged = np.bincount(documents[1:][row & (cells[1:] != cells[:-1])], minlength=anatomy.num_documents)
    return ratio(ragged, np.bincount(documents[1:][row], minlength=anatomy.num_documents))
