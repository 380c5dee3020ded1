"""Which script and which language each document of a batch is in.

Scripts are counted by Unicode. Languages come from py3langid's model, evaluated for a whole batch at once: its
automaton walks all documents in step, one byte of each at a time. Languages that are not written in the document's
script are ruled out; a script that only one language uses decides by itself.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.calibration import calibration
from vernacular.corpus.codepoints import script_codes
from vernacular.corpus.configuration import Identification
from vernacular.corpus.counting.code import call, tables
from vernacular.corpus.counting.counts import count_scripts
from vernacular.corpus.document import COMMON_SCRIPT, UNDETERMINED_LANGUAGE
from vernacular.corpus.languages import canonical_language, scripts, scripts_of
from vernacular.corpus.normalisation import without_markup
from vernacular.corpus.romanised import Mixture, mixtures

# Japanese mixes three scripts; with a twentieth of kana a text in Han characters is Japanese, not Chinese.
_JAPANESE = ("Hira", "Kana")
_JAPANESE_SHARE = 0.05
# A letter of a script that separates no words weighs as much as so many of others: it is nearer to a syllable or word.
_UNSPACED_WEIGHT = 3


@dataclass(frozen=True)
class Identified:
    """What was found, per document.

    Attributes:
        languages: str [D], "und" where undecided.
        scripts: str [D], ISO 15924, "Zyyy" without letters.
        probabilities: float32 [D], of the language; of romanised text, its share of the words.
        mixtures: of texts in Latin letters with romanised words, which languages they mix; None for the others.
    """

    languages: list[str]
    scripts: list[str]
    probabilities: np.ndarray
    mixtures: list[Mixture | None]


def identify(
    texts: pa.Array,
    stated: list[str | None],
    settings: Identification,
    wanted: frozenset[str],
) -> Identified:
    """Identify a batch.

    Args:
        texts: large_string [D].
        stated: per document, the language its source states (canonical code), or None.
        settings: thresholds.
        wanted: the recipe's languages; empty means none are preferred.

    Returns:
        Per document language, script and probability. A stated language is kept unless the document's script
        is not one that the language is written in.
    """
    texts = without_markup(texts)
    codes, num_letters = dominant_scripts(texts)
    model = _model()
    scores = _masked(model.scores(texts, settings.sample_bytes), codes, settings, wanted)
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    best = probabilities.argmax(axis=1)
    mixed = _romanised(texts, codes, num_letters, settings)
    languages: list[str] = []
    certainty = probabilities[np.arange(len(best)), best].astype(np.float32)
    for index, code in enumerate(codes):
        said = stated[index]
        entry = scripts().get(code)
        likeliest = model.languages[best[index]]
        least = settings.minimum_probability
        least = calibration().threshold(likeliest) if least is None else least
        mixture = mixed[index]
        if said and said != UNDETERMINED_LANGUAGE and _may_be_written(said, code):
            languages.append(said)
            certainty[index] = 1.0
        elif mixture is not None:
            languages.append(mixture.label)
            certainty[index] = mixture.romanised
        elif entry and len(entry.languages) == 1:
            languages.append(next(iter(entry.languages)))
            certainty[index] = 1.0
        elif num_letters[index] >= settings.minimum_letters and certainty[index] >= least:
            languages.append(likeliest)
        else:
            languages.append(entry.main if entry and entry.main else UNDETERMINED_LANGUAGE)
    return Identified(languages, codes, certainty, mixed)


def raw_scores(texts: pa.Array, settings: Identification) -> tuple[np.ndarray, tuple[str, ...]]:
    """Uncalibrated log-odds [D, K] of a batch and the K languages, impossible ones at -inf: to calibrate with."""
    texts = without_markup(texts)
    codes, _ = dominant_scripts(texts)
    return _possible(_model().scores(texts, settings.sample_bytes), codes), tuple(_model().languages)


def _romanised(
    texts: pa.Array, codes: list[str], num_letters: np.ndarray, settings: Identification
) -> list[Mixture | None]:
    """The mixtures of the texts in Latin letters that have romanised words enough."""
    found: list[Mixture | None] = [None] * len(codes)
    latin = [index for index, code in enumerate(codes) if code == "Latn"]
    latin = [index for index in latin if num_letters[index] >= settings.minimum_letters]
    if settings.romanised and latin:
        sample = pc.utf8_slice_codeunits(texts.take(pa.array(latin)), 0, settings.sample_bytes)
        for index, mixture in zip(latin, mixtures(sample), strict=True):
            found[index] = mixture if mixture.label else None
    return found


def dominant_scripts(texts: pa.Array) -> tuple[list[str], np.ndarray]:
    """The script most of each of D texts is in (ISO 15924), and the number of its letters (int64 [D])."""
    names = list(script_codes())
    counts = count_scripts(texts)
    counts[:, 0] = 0
    counts *= np.array([1] + [1 if script.spaces else _UNSPACED_WEIGHT for script in scripts().values()])
    totals = counts.sum(axis=1)
    japanese = counts[:, [names.index(code) for code in _JAPANESE]].sum(axis=1) > _JAPANESE_SHARE * np.maximum(
        totals, 1
    )
    han = counts[:, [names.index(code) for code in ("Hani", *_JAPANESE)]].sum(axis=1) * 2 > totals
    best = counts.argmax(axis=1)
    codes = [
        "Jpan" if japanese[index] and han[index] else names[best[index]] if totals[index] else COMMON_SCRIPT
        for index in range(len(texts))
    ]
    return codes, totals


def _may_be_written(language: str, script: str) -> bool:
    """Whether the script is no evidence against the language. A language we know no script of may be in any."""
    known = scripts_of(language)
    return not known or script in known or script == COMMON_SCRIPT


def _masked(scores: np.ndarray, codes: list[str], settings: Identification, wanted: frozenset[str]) -> np.ndarray:
    """Log-probabilities [D, K] with impossible languages at -inf and the recipe's languages raised by the prior."""
    languages = _model().languages
    scores = calibration().apply(scores, languages)
    if wanted:
        preferred = np.array([language in wanted for language in languages])
        if settings.restrict and preferred.any():
            scores = np.where(preferred, scores, -np.inf)
        scores = scores + np.where(preferred, np.log(settings.prior), 0.0)
    return _possible(scores, codes)


def _possible(scores: np.ndarray, codes: list[str]) -> np.ndarray:
    """The scores with languages that are not written in the document's script at -inf."""
    languages = _model().languages
    for code in set(codes):
        entry = scripts().get(code)
        if entry is None:
            continue
        possible = np.array([language in entry.languages for language in languages])
        rows = np.array([other == code for other in codes])
        if possible.any() and np.isfinite(scores[rows][:, possible]).any():
            scores[rows] = np.where(possible, scores[rows], -np.inf)
    return scores


class _Model(ctypes.Structure):
    """As in counting/languages.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("next", "rows", "features", "weights", "logarithms")),
        *((name, ctypes.c_int64) for name in ("num_features", "num_classes")),
    ]


class _ByteModel:
    """py3langid's naive Bayes over byte n-grams, for batches."""

    def __init__(self) -> None:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self._weights = np.ascontiguousarray(identifier.nb_ptc, dtype=np.float32)
        self._biases = np.asarray(identifier.nb_pc, dtype=np.float32)
        automaton = (identifier.tk_nextmove, identifier.tk_row, identifier.tk_output)
        self._tables = [*(np.ascontiguousarray(table, dtype=np.int32) for table in automaton), self._weights]
        codes = [canonical_language(code) if code != "zxx" else UNDETERMINED_LANGUAGE for code in identifier.nb_classes]
        self.languages = sorted(set(codes))
        # Columns of one language (two scripts, or an alias of its code) are folded into the first.
        self._columns = [[i for i, code in enumerate(codes) if code == language] for language in self.languages]

    def scores(self, texts: pa.Array, sample_bytes: int) -> np.ndarray:
        """Log-odds of each language: float64 [D, K], tempered by the square root of the length as py3langid does.

        Args:
            texts: large_string [D] without nulls.
            sample_bytes: how much of each is looked at.
        """
        lengths = np.minimum(pc.binary_length(texts).to_numpy(zero_copy_only=False), sample_bytes)
        raw, numbers = self._sums(texts, int(lengths.max(initial=0)))
        raw = (raw + self._biases) / np.sqrt(np.maximum(lengths, 1))[:, None]
        raw[numbers == 0] = 0.0
        merged = [np.logaddexp.reduce(raw[:, columns], axis=1) for columns in self._columns]
        return np.stack(merged, axis=1)

    def _sums(self, texts: pa.Array, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the n-grams in each document's first `most` bytes the sums of weights (float32 [D, L]), and how many."""
        sums = np.empty((len(texts), self._weights.shape[1]), dtype=np.float32)
        numbers = np.empty(len(texts), dtype=np.int64)
        logarithms = np.log1p(np.arange(most + 1, dtype=np.float32))
        arrays = (table.ctypes.data for table in (*self._tables, logarithms))
        model = _Model(*arrays, *self._weights.shape)
        rest = (ctypes.addressof(model), most, sums.ctypes.data, numbers.ctypes.data)
        call("score_languages", texts, np.zeros(len(texts), dtype=np.int64), tables(), *rest)
        return sums, numbers


@cache
def _model() -> _ByteModel:
    return _ByteModel()
