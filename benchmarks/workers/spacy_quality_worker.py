"""The peer: a blank spaCy pipeline with a sentencizer, features computed token by token, one document at a time.

This is how StyloMetrix and textstat-like analysers work, less their tagging and parsing, which need models that do not
install as packages. It computes 45 of the 93 features, and the classifier on one row.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import spacy
import xgboost
from quality_protocol import COMPARED, Measured, serve

NUM_FEATURES = 93
booster = xgboost.Booster({"nthread": 1})
booster.load_model(sys.argv[1])
pipelines: dict[str, Any] = {}


def pipeline(language: str) -> Any:
    """The language's tokeniser and a sentencizer, loaded once."""
    if language not in pipelines:
        pipelines[language] = spacy.blank(language)
        pipelines[language].add_pipe("sentencizer")
    return pipelines[language]


def of_characters(text: str) -> dict[str, float]:
    """What the characters are."""
    import unicodedata

    visible = [one for one in text if not one.isspace()]
    kinds = Counter(unicodedata.category(one)[0] for one in visible)
    counts = Counter(visible)
    total = max(len(visible), 1)
    return {
        "num_characters": float(len(visible)),
        "letter_ratio": kinds["L"] / total,
        "mark_ratio": kinds["M"] / total,
        "digit_ratio": kinds["N"] / total,
        "punctuation_ratio": kinds["P"] / total,
        "symbol_ratio": kinds["S"] / total,
        "control_ratio": kinds["C"] / total,
        "uppercase_ratio": sum(one.isupper() for one in visible) / total,
        "lowercase_ratio": sum(one.islower() for one in visible) / total,
        "underscore_ratio": counts["_"] / total,
        "greater_than_ratio": counts[">"] / total,
        "pipe_ratio": counts["|"] / total,
        "replacement_ratio": counts["\ufffd"] / total,
        "character_entropy": -sum(n / total * math.log2(n / total) for n in counts.values()),
    }


def of_tokens(document: Any) -> dict[str, float]:
    """What the tokens are."""
    words = [token for token in document if not token.is_space and not token.is_punct]
    lower = [token.lower_ for token in words]
    lengths = [len(token) for token in words] or [0]
    counts = Counter(lower) or Counter([""])
    pairs, fives = (list(zip(*(lower[at:] for at in range(size)), strict=False)) for size in (2, 5))
    total = max(len(words), 1)
    return {
        "num_words": len(words),
        "mean_word_length": statistics.fmean(lengths),
        "word_length_deviation": statistics.pstdev(lengths),
        "long_word_ratio": sum(length > 6 for length in lengths) / total,
        "longest_word": max(lengths),
        "uppercase_word_ratio": sum(token.is_upper for token in words) / total,
        "title_ratio": sum(token.is_title for token in words) / total,
        "non_alphabetic_ratio": sum(not token.is_alpha for token in words) / total,
        "link_ratio": sum(token.like_url for token in words) / total,
        "number_ratio": sum(token.like_num for token in words) / total,
        "stop_word_ratio": sum(token.is_stop for token in words) / total,
        "unique_word_count": len(counts),
        "hapax_ratio": sum(count == 1 for count in counts.values()) / len(counts),
        "top_word_ratio": max(counts.values()) / total,
        "close_repetition_ratio": sum(word in lower[max(0, at - 10) : at] for at, word in enumerate(lower)) / total,
        "repeated_pair_ratio": 1 - len(set(pairs)) / max(len(pairs), 1),
        "repeated_five_ratio": 1 - len(set(fives)) / max(len(fives), 1),
    }


def of_sentences(document: Any, text: str) -> dict[str, float]:
    """What sentences and lines are."""
    lengths = [len(sentence) for sentence in document.sents] or [0]
    number = max(len(lengths), 1)
    lines = [line for line in text.split("\n") if line.strip()] or [""]
    line_lengths = [sum(not one.isspace() for one in line) for line in lines]
    return {
        "num_sentences": number,
        "mean_sentence_length": statistics.fmean(lengths),
        "sentence_length_deviation": statistics.pstdev(lengths),
        "commas_per_sentence": text.count(",") / number,
        "colons_per_sentence": (text.count(":") + text.count(";")) / number,
        "interrogative_ratio": text.count("?") / number,
        "exclamatory_ratio": text.count("!") / number,
        "num_lines": len(lines),
        "mean_line_length": statistics.fmean(line_lengths),
        "line_length_deviation": statistics.pstdev(line_lengths),
        "short_line_ratio_10": sum(length < 10 for length in line_lengths) / len(lines),
        "short_line_ratio_20": sum(length < 20 for length in line_lengths) / len(lines),
        "bullet_ratio": sum(line.startswith(("- ", "* ")) for line in lines) / len(lines),
        "duplicate_line_ratio": 1 - len(set(lines)) / len(lines),
    }


def grade(texts: Sequence[str], languages: Sequence[str]) -> Measured:
    """Features and scores, one text after another."""
    measured: Measured = {name: [] for name in COMPARED}
    row = np.full((1, NUM_FEATURES), np.nan, dtype=np.float32)
    for text, language in zip(texts, languages, strict=True):
        document = pipeline(language)(text)
        found = {**of_characters(text), **of_tokens(document), **of_sentences(document, text)}
        row[0, : len(found)] = list(found.values())
        booster.inplace_predict(row, validate_features=False)
        for name in COMPARED:
            measured[name].append(float(found[name]))
    return measured


serve(grade)
