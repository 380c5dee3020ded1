"""Languages of India in Latin letters, and English mixed in: which words of a text are in which.

Every package for identification reads "kal milte hain yaar" as Indonesian, Estonian or the like. Here a linear model
over the character n-grams of single words says what each word looks like, and the likeliest sequence of languages is
taken, in which a language seldom changes from one word to the next (Viterbi). The model learns from text that
`romanisation.py` writes in Latin letters (`vernacular fit-languages`); its weights are `data/romanised.safetensors`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.counting.code import call, tables
from vernacular.corpus.romanisation import other_groups

# Every other language in Latin letters: which one is another model's question.
OTHER = "other"
# A language is named in a mixture from this share of the words on, if so many words are in Indian languages.
_LEAST_SHARE = 0.15
# A second Indian language from this share on: words of related ones are often the same.
_SECOND_SHARE = 0.3
_FEWEST_WORDS = 3
# Natural logarithm of how much less likely a change of language is than none.
_CHANGE = -4.0


@dataclass(frozen=True)
class Mixture:
    """The languages of a text in Latin letters, by their shares of its words.

    Attributes:
        shares: language → share; English and the class `OTHER` among them.
        words: how many words were looked at.
    """

    shares: dict[str, float]
    words: int

    @property
    def label(self) -> str:
        """What the text is called: "hi-Latn", "hi-Latn+en", or "" where romanised words are too few to name it by."""
        own = {name: share for name, share in self.shares.items() if name not in (OTHER, "en")}
        if not own or self.words * self.romanised < _FEWEST_WORDS or self.romanised < _LEAST_SHARE:
            return ""
        if self.shares.get(OTHER, 0.0) >= self.romanised:
            return ""
        first = max(own, key=lambda name: own[name])
        named = [f"{first}-Latn", *(f"{name}-Latn" for name in own if name != first and own[name] >= _SECOND_SHARE)]
        return "+".join([*named, "en"] if self.shares.get("en", 0.0) >= _LEAST_SHARE else named)

    @property
    def romanised(self) -> float:
        """The share of languages that have a script of their own."""
        return sum(share for language, share in self.shares.items() if language not in (OTHER, "en"))


def mixtures(texts: pa.Array) -> list[Mixture]:
    """What each of D texts (large_string without nulls) is made of."""
    model = _model()
    counts = np.zeros((len(texts), len(model.languages)), dtype=np.int64)
    nobody = np.zeros(len(texts), dtype=np.int64)
    arrays = (model.weights.ctypes.data, model.biases.ctypes.data)
    call("romanised_words", texts, nobody, tables(), *arrays, len(model.languages), _CHANGE, counts.ctypes.data)
    return [_mixture(row, model.languages) for row in counts]


def _mixture(counts: np.ndarray, classes: tuple[str, ...]) -> Mixture:
    total = int(counts.sum())
    shares: dict[str, float] = {}
    for place in np.flatnonzero(counts):
        name = classes[place] if classes[place] not in other_groups() else OTHER
        shares[name] = shares.get(name, 0.0) + float(counts[place] / total)
    return Mixture(shares, total)


def word_ngrams(words: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The hashed n-grams of words of Latin letters: the word and the bucket of each (int64 [F])."""
    capacity = 4 * (int(pc.sum(pc.utf8_length(words)).as_py() or 0) + 2 * len(words))
    found, places, buckets = (np.zeros(size, dtype=np.int64) for size in (1, capacity, capacity))
    nobody = np.zeros(len(words), dtype=np.int64)
    pointers = (places.ctypes.data, buckets.ctypes.data, found.ctypes.data)
    call("latin_ngrams", words, nobody, tables(), capacity, *pointers)
    return places[: found[0]], buckets[: found[0]]


class RomanisedModel:
    """The linear model.

    Attributes:
        languages: K classes: languages of ours, English, groups of others.
        weights: float32 [2^14, K].
        biases: float32 [K].
    """

    def __init__(self, languages: tuple[str, ...], weights: np.ndarray, biases: np.ndarray) -> None:
        self.languages = languages
        self.weights = np.ascontiguousarray(weights, dtype=np.float32)
        self.biases = np.ascontiguousarray(biases, dtype=np.float32)

    @classmethod
    def read(cls, raw: bytes) -> RomanisedModel:
        """From a safetensors file: int8 weights with a scale for each class."""
        from safetensors.numpy import load

        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        tensors = load(raw)
        weights = tensors["weights"].astype(np.float32) * tensors["scales"]
        return cls(tuple(header["__metadata__"]["languages"].split()), weights, tensors["biases"])

    def bytes(self) -> bytes:
        """As `read` reads it."""
        from safetensors.numpy import save

        scales = np.abs(self.weights).max(axis=0) / 127
        tensors = {
            "weights": np.round(self.weights / scales).astype(np.int8),
            "scales": scales.astype(np.float32),
            "biases": self.biases.astype(np.float32),
        }
        return save(tensors, metadata={"languages": " ".join(self.languages)})


@cache
def _model() -> RomanisedModel:
    return RomanisedModel.read(files("vernacular.corpus").joinpath("data", "romanised.safetensors").read_bytes())
