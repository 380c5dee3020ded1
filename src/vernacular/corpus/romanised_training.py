"""Training the classifier of romanised text: words of each language, written in Latin letters by rule."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import regex
import scipy.optimize
import scipy.sparse

from vernacular.corpus.romanisation import common_words, group_of, other_groups, romanise, romanised_languages
from vernacular.corpus.romanised import RomanisedModel, word_ngrams

_BUCKETS = 1 << 14
_WORD = regex.compile(r"(?<![\p{L}\p{M}])\p{Latin}+(?![\p{L}\p{M}])")
_SPELLINGS = 2
# A word of the lists counts as much as one that stands so often in the text.
_COMMON_COUNT = 30
_ITERATIONS = 80
_DECAY = 2e-6


def train_romanised(sentences: Iterable[tuple[str, str]], seed: int = 0) -> RomanisedModel:
    """Train on sentences (language, text), each in its language's own script.

    Sentences of a language with a table are romanised, those in English stand for themselves, and those of other
    languages for their group; they must be in Latin letters.
    """
    rng = random.Random(seed)
    classes = (*romanised_languages(), "en", *other_groups())
    words: Counter[tuple[str, str]] = Counter()
    for language, text in sentences:
        if language in romanised_languages():
            for _ in range(_SPELLINGS):
                words.update((language, word) for word in _words(romanise(text, language, rng)))
        else:
            group = "en" if language == "en" else group_of(language)
            words.update((group, word) for word in _words(text))
    for language in (*romanised_languages(), "en"):
        words.update({(language, word): _COMMON_COUNT for word in common_words(language)})
    return _fit(words, classes)


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


def _fit(words: Counter[tuple[str, str]], classes: tuple[str, ...]) -> RomanisedModel:
    """Multinomial logistic regression, the classes weighing the same and a word the root of its count."""
    pairs = sorted(words)
    places, buckets = word_ngrams(pa.array([word for _, word in pairs], pa.large_string()))
    counts = np.bincount(places, minlength=len(pairs))
    values = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts).astype(np.float32)
    matrix = scipy.sparse.csr_matrix((values, (places, buckets)), shape=(len(pairs), _BUCKETS))
    targets = np.array([classes.index(language) for language, _ in pairs])
    weights = np.sqrt(np.array([words[pair] for pair in pairs], dtype=np.float64))
    weights /= np.bincount(targets, weights, minlength=len(classes))[targets] * len(classes)
    transposed = matrix.T.tocsr()
    once = np.zeros((len(pairs), len(classes)), dtype=np.float32)
    once[np.arange(len(pairs)), targets] = 1

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        table = flat.reshape(_BUCKETS + 1, len(classes))
        scores = matrix @ table[:-1].astype(np.float32) + table[-1]
        scores -= scores.max(axis=1, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        residual = ((np.exp(scores) - once) * weights[:, None]).astype(np.float32)
        gradient = np.vstack([transposed @ residual, residual.sum(axis=0)]).astype(np.float64) + 2 * _DECAY * table
        value = -(scores[np.arange(len(pairs)), targets] * weights).sum() + _DECAY * (table**2).sum()
        return float(value), gradient.ravel()

    start = np.zeros((_BUCKETS + 1) * len(classes))
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    table = found.x.reshape(_BUCKETS + 1, len(classes)).astype(np.float32)
    return RomanisedModel(classes, table[:-1], table[-1])
