"""Lines and paragraphs: how the text is laid out, and what returns."""

from __future__ import annotations

import numpy as np

from vernacular.corpus.quality.anatomy import Anatomy, Pieces, ratio
from vernacular.corpus.quality.traits import ENDS, LETTERS, Trait
from vernacular.corpus.words import Hashes, lines, mixed

_VERY_SHORT, _SHORT = 10, 20  # characters


def measure(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """The features of the group `lines`."""
    pieces = anatomy.lines
    lengths = pieces.count(anatomy.visible)
    full = lengths > 0
    number = anatomy.count_pieces(pieces, full)
    words = np.bincount(pieces.at(anatomy.hashes.starts), minlength=len(full))
    letters = pieces.count(anatomy.is_any(LETTERS))
    mean, deviation = anatomy.spread(pieces, lengths, full)
    paragraph_words, has_words = _paragraph_words(anatomy)
    mean_paragraph, _ = anatomy.spread(anatomy.paragraphs, paragraph_words, has_words)

    def share(chosen: np.ndarray) -> np.ndarray:
        return ratio(anatomy.count_pieces(pieces, full & chosen), number)

    return {
        "num_lines": number.astype(np.float64),
        "num_paragraphs": anatomy.count_pieces(anatomy.paragraphs, has_words).astype(np.float64),
        "mean_line_length": mean,
        "line_length_deviation": deviation,
        "short_line_ratio_10": share(lengths < _VERY_SHORT),
        "short_line_ratio_20": share(lengths < _SHORT),
        "single_word_line_ratio": share(words == 1),
        "letterless_line_ratio": share(letters == 0),
        "blank_line_ratio": ratio(
            anatomy.count_pieces(pieces, ~full), np.bincount(pieces.documents, minlength=len(number))
        ),
        "terminal_line_ratio": share(_ends_whole(anatomy, pieces)),
        "mean_paragraph_length": mean_paragraph,
        "duplicate_line_ratio": _duplicate_lines(anatomy),
        "duplicate_paragraph_ratio": _duplicate_paragraphs(anatomy, paragraph_words),
    }


def _paragraph_words(anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    of = anatomy.paragraphs.at(anatomy.hashes.starts)
    words = np.bincount(of, minlength=len(anatomy.paragraphs.starts))
    return words, words > 0


def _ends_whole(anatomy: Anatomy, pieces: Pieces) -> np.ndarray:
    """bool [L]: whether a line's last visible character ends a sentence or a quotation."""
    seen = np.flatnonzero(anatomy.visible)
    if not len(seen):
        return np.zeros(len(pieces.starts), dtype=bool)
    ends = np.append(pieces.starts[1:], len(anatomy.traits))
    last = seen[np.maximum(np.searchsorted(seen, ends) - 1, 0)]
    return np.isin(anatomy.traits[last], (*ENDS, Trait.QUOTE, Trait.CLOSING))


def _duplicate_lines(anatomy: Anatomy) -> np.ndarray:
    """float64 [D]: share of the lines that stood before."""
    found, _ = lines(anatomy.words.points)
    return _share_repeated(anatomy, found)


def _duplicate_paragraphs(anatomy: Anatomy, num_words: np.ndarray) -> np.ndarray:
    """float64 [D]: share of the paragraphs whose words stood before in one, in the same order."""
    hashes = anatomy.hashes
    if not len(hashes.starts):
        return np.full(anatomy.num_documents, np.nan)
    of = anatomy.paragraphs.at(hashes.starts)
    first = np.flatnonzero(np.append(True, of[1:] != of[:-1]))
    place = np.arange(len(of)) - np.repeat(first, num_words[num_words > 0])
    values = np.add.reduceat(mixed(hashes.values + place.astype(np.uint64)), first)
    return _share_repeated(anatomy, Hashes(values, hashes.documents[first], hashes.starts[first]))


def _share_repeated(anatomy: Anatomy, pieces: Hashes) -> np.ndarray:
    again = np.bincount(pieces.documents[pieces.repeated()], minlength=anatomy.num_documents)
    return ratio(again, np.bincount(pieces.documents, minlength=anatomy.num_documents))
