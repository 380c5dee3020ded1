"""Shingles: the overlapping runs of words by which near-duplicates are compared.

Words are lower case, without punctuation; in scripts that separate no words every letter is one.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse

from vernacular.corpus.codepoints import CodePoints
from vernacular.corpus.languages import scripts
from vernacular.corpus.words import Hashes, Words

_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}\x{200C}\x{200D}]+"


def shingle_texts(texts: pa.Array) -> pa.Array:
    """The words of each text (large_string [D]) separated by single spaces, as Daft's `minhash` wants them."""
    names = "".join(rf"\p{{{name}}}" for name in _unspaced_names())
    spaced = pc.replace_substring_regex(pc.utf8_lower(texts), _BETWEEN_WORDS, " ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(spaced, rf"([{names}])", r"\1 "))


def shingle_matrix(texts: pa.Array, size: int) -> scipy.sparse.csr_matrix:
    """Which shingles each text has: int32 0/1 [D, number of different shingles].

    A text of fewer than `size` words is one shingle.
    """
    words = Words(CodePoints.of(pc.utf8_lower(texts)))
    pieces = [words.hashes.ngrams(size)]
    for fewer in range(1, size):
        whole = words.hashes.ngrams(fewer)
        short = words.counts[whole.documents] == fewer
        pieces.append(Hashes(whole.values[short], whole.documents[short], whole.starts[short]))
    values = np.concatenate([piece.values for piece in pieces])
    documents = np.concatenate([piece.documents for piece in pieces])
    distinct, columns = np.unique(values, return_inverse=True)
    shape = (words.points.num_documents, max(len(distinct), 1))
    matrix = scipy.sparse.csr_matrix((np.ones(len(values), dtype=np.int32), (documents, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def jaccard(matrix: scipy.sparse.csr_matrix, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 [P]: exact Jaccard similarity of the rows `first` and `second` (int [P]); 0 for two empty rows."""
    sizes = np.diff(matrix.indptr)
    similarity = np.zeros(len(first))
    step = 1 << 16
    for begin in range(0, len(first), step):
        here = slice(begin, begin + step)
        shared = np.asarray(matrix[first[here]].multiply(matrix[second[here]]).sum(axis=1)).ravel()
        union = sizes[first[here]] + sizes[second[here]] - shared
        similarity[here] = shared / np.maximum(union, 1)
    return similarity


def _unspaced_names() -> list[str]:
    # RE2, behind Arrow, knows scripts by their long names only.
    long = {
        "Hani": "Han", "Hira": "Hiragana", "Kana": "Katakana", "Bopo": "Bopomofo", "Thai": "Thai", "Laoo": "Lao",
        "Khmr": "Khmer", "Mymr": "Myanmar", "Tibt": "Tibetan", "Java": "Javanese", "Bali": "Balinese",
        "Talu": "New_Tai_Lue", "Tale": "Tai_Le",
    }  # fmt: skip
    return [long[code] for code, script in scripts().items() if not script.spaces]
