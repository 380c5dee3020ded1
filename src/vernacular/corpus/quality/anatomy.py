"""A batch of texts taken apart: code points, words, sentences, lines, paragraphs. The features count over these.

In names below N is the number of code points of a batch, W of its words and D of its documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.codepoints import CodePoints
from vernacular.corpus.quality.traits import ENDS, Trait, trait_table
from vernacular.corpus.words import Hashes, Words, mixed

_FIRST_FULL_WIDTH = 0x3000


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """float64: part / whole; NaN where the whole is 0, for then the feature does not apply."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


class Pieces:
    """The pieces (lines, sentences, paragraphs) that a batch is cut into, without gaps.

    Args:
        points: the batch.
        begins: bool [N], where pieces begin; true at the first code point of each document.

    Attributes:
        starts: int64 [P], ascending.
        documents: int64 [P].
    """

    def __init__(self, points: CodePoints, begins: np.ndarray) -> None:
        self.starts = np.flatnonzero(begins)
        self.documents = points.documents[self.starts]
        self._begins = begins

    @cached_property
    def of(self) -> np.ndarray:
        """int64 [N]: the piece of each code point."""
        return np.cumsum(self._begins) - 1

    def count(self, chosen: np.ndarray) -> np.ndarray:
        """int64 [P]: how many code points of each piece are chosen (bool [N])."""
        if not len(self.starts):
            return np.zeros(0, dtype=np.int64)
        return np.add.reduceat(chosen, self.starts, dtype=np.int64)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """int64: the pieces that the code points at `positions` (ascending) lie in."""
        return np.searchsorted(self.starts, positions, side="right") - 1


class Anatomy:
    """D texts and the languages they are in.

    Args:
        texts: large_string [D], normalised, no nulls.
        languages: ISO 639 code of each.
    """

    def __init__(self, texts: pa.Array, languages: list[str]) -> None:
        self.texts = texts
        self.languages = languages
        self.points = CodePoints.of(texts)
        # Lower case is one code point for one, so positions agree.
        self.words = Words(CodePoints.of(pc.utf8_lower(texts)))
        self.num_documents = self.points.num_documents

    # ------------------------------------------------------------------------------------------ code points

    @cached_property
    def traits(self) -> np.ndarray:
        """uint8 [N]: `Trait` of each code point."""
        return trait_table()[self.points.values]

    @cached_property
    def _histogram(self) -> np.ndarray:
        return self.points.count_by(self.traits, len(Trait))

    def num(self, *traits: Trait) -> np.ndarray:
        """int64 [D]: code points with one of the traits."""
        return self._histogram[:, list(traits)].sum(axis=1)

    @cached_property
    def visible(self) -> np.ndarray:
        """bool [N]: not white space."""
        return (self.traits != Trait.SPACE) & (self.traits != Trait.NEWLINE)

    @cached_property
    def num_visible(self) -> np.ndarray:
        """int64 [D]: code points that are not white space."""
        return self._histogram.sum(axis=1) - self.num(Trait.SPACE, Trait.NEWLINE)

    def is_any(self, traits: Iterable[Trait]) -> np.ndarray:
        """bool [N]: whether the code point has one of the traits."""
        member = np.zeros(len(Trait), dtype=bool)
        member[list(traits)] = True
        return member[self.traits]

    def trait_before(self, positions: np.ndarray) -> np.ndarray:
        """uint8: the trait of the code point before each position; NEWLINE before a document's first."""
        before = self.traits[np.maximum(positions - 1, 0)]
        return np.where(self.points.starts[positions], np.uint8(Trait.NEWLINE), before)

    def trait_after(self, positions: np.ndarray) -> np.ndarray:
        """uint8: the trait of the code point after each position; NEWLINE after a document's last."""
        following = np.minimum(positions + 1, len(self.traits) - 1)
        last = self.points.starts[following] | (positions == len(self.traits) - 1)
        return np.where(last, np.uint8(Trait.NEWLINE), self.traits[following])

    def count_at(self, positions: np.ndarray) -> np.ndarray:
        """int64 [D]: how many of the positions lie in each document."""
        return np.bincount(self.points.documents[positions], minlength=self.num_documents)

    # ------------------------------------------------------------------------------------------ words

    @cached_property
    def hashes(self) -> Hashes:
        """Hash, document and start of each word, lower case."""
        return self.words.hashes

    @cached_property
    def num_words(self) -> np.ndarray:
        """int64 [D]."""
        return self.words.counts

    @cached_property
    def word_lengths(self) -> np.ndarray:
        """int64 [W]: graphemes."""
        return self.over_words(self.points.graphemes & self.points.in_word)

    def over_words(self, chosen: np.ndarray) -> np.ndarray:
        """int64 [W]: how many code points of each word are chosen (bool [N], true within words only)."""
        if not len(self.hashes.starts):
            return np.zeros(0, dtype=np.int64)
        return np.add.reduceat(chosen, self.hashes.starts, dtype=np.int64)

    def sum_words(self, values: np.ndarray) -> np.ndarray:
        """float64 [D]: sum of a value per word ([W])."""
        return np.bincount(self.hashes.documents, weights=values, minlength=self.num_documents)

    def mean_words(self, values: np.ndarray) -> np.ndarray:
        """float64 [D]: mean of a value per word; NaN without words."""
        return ratio(self.sum_words(values), self.num_words)

    def deviation_words(self, values: np.ndarray) -> np.ndarray:
        """float64 [D]: standard deviation of a value per word; NaN without words."""
        mean = self.mean_words(values)
        return np.sqrt(np.maximum(self.mean_words(values.astype(np.float64) ** 2) - mean**2, 0))

    # ------------------------------------------------------------------------------------------ pieces

    @cached_property
    def lines(self) -> Pieces:
        """What newlines separate, empty lines too."""
        return Pieces(self.points, self.points.starts | self.points.before(self.traits == Trait.NEWLINE))

    @cached_property
    def paragraphs(self) -> Pieces:
        """What empty lines separate."""
        newline = self.traits == Trait.NEWLINE
        opened = self.points.before(newline) & self.points.before(newline, steps=2) & ~newline
        return Pieces(self.points, self.points.starts | opened)

    @cached_property
    def sentences(self) -> Pieces:
        """Cut at newlines, and where white space follows a mark that ends sentences, closing quotes between."""
        closers = self.is_any((Trait.QUOTE, Trait.CLOSING, Trait.APOSTROPHE))
        ends = self.is_any(ENDS)
        ended = ends | (closers & self.points.before(ends))
        space = self.traits == Trait.SPACE
        begins = self.points.starts | self.points.before(self.traits == Trait.NEWLINE)
        begins |= self.points.before(space) & self.points.before(ended, steps=2)
        # Scripts that write no spaces write none after their full stops either.
        begins |= self.points.before(ended & (self.points.values >= _FIRST_FULL_WIDTH)) & ~ended
        return Pieces(self.points, begins)

    @cached_property
    def sentence_of_words(self) -> np.ndarray:
        """int64 [W]: the sentence each word begins in."""
        return self.sentences.at(self.hashes.starts)

    @cached_property
    def sentence_lengths(self) -> np.ndarray:
        """int64 [S]: words of each sentence; a piece without words is none, and has 0."""
        return np.bincount(self.sentence_of_words, minlength=len(self.sentences.starts))

    @cached_property
    def num_sentences(self) -> np.ndarray:
        """int64 [D]: sentences with a word at least."""
        return self.count_pieces(self.sentences, self.sentence_lengths > 0)

    def count_pieces(self, pieces: Pieces, chosen: np.ndarray) -> np.ndarray:
        """int64 [D]: how many pieces of each document are chosen (bool [P])."""
        return np.bincount(pieces.documents[chosen], minlength=self.num_documents)

    def spread(self, pieces: Pieces, values: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float64 [D] twice: mean and standard deviation of a value over the chosen pieces; NaN without any."""
        documents = pieces.documents[chosen]
        picked = values[chosen].astype(np.float64)
        count = np.bincount(documents, minlength=self.num_documents)
        mean = ratio(np.bincount(documents, weights=picked, minlength=self.num_documents), count)
        square = ratio(np.bincount(documents, weights=picked**2, minlength=self.num_documents), count)
        return mean, np.sqrt(np.maximum(square - mean**2, 0))

    def highest(self, documents: np.ndarray, values: np.ndarray) -> np.ndarray:
        """float64 [D]: the greatest of the values (above 0) of each document; NaN without any."""
        result = np.zeros(self.num_documents)
        np.maximum.at(result, documents, values)
        result[result == 0] = np.nan
        return result

    # ------------------------------------------------------------------------------------------ occurrences

    @cached_property
    def occurrences(self) -> tuple[np.ndarray, np.ndarray]:
        """The words ordered so that equal ones of a document stand together, in the order of the text.

        Returns:
            int64 [W], their order; bool [W], where in that order another word begins.
        """
        keys = self.hashes.values ^ mixed(self.hashes.documents)
        order = np.argsort(keys, kind="stable")
        new = np.ones(len(order), dtype=bool)
        new[1:] = keys[order][1:] != keys[order][:-1]
        return order, new

    @cached_property
    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 [U] twice: the document and the number of occurrences of each different word of a document."""
        order, new = self.occurrences
        begins = np.flatnonzero(new)
        return self.hashes.documents[order[begins]], np.diff(np.append(begins, len(order)))
