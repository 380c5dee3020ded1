"""Words are counted as the engine cuts them; in little memory their counts are short by a known number at most."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from vernacular.tokens.pre_tokenizer import Digits, Normalisation, split_pattern, word_cutter
from vernacular.tokens.word_counts import WordCounts


def counted(
    texts: list[str], digits: Digits = "individual", most: int = 100_000, normalisation: Normalisation = "none"
) -> WordCounts:
    words = WordCounts(word_cutter(digits, normalisation), most)
    words.add(texts)
    return words


@pytest.mark.parametrize("digits", ["individual", "groups"])
def test_words_are_those_that_the_engine_cuts(
    digits: Digits, sentences: dict[str, list[str]], horrible: list[str]
) -> None:
    engine = pre_tokenizers.Split(Regex(split_pattern(digits)), behavior="isolated")
    assigned = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    draw = random.Random(0)
    random_texts = ["".join(draw.choices(assigned, k=200)) for _ in range(300)]
    texts = [text for group in sentences.values() for text in group] + horrible + random_texts
    cut = Counter(word for text in texts for word, _ in engine.pre_tokenize_str(text))
    assert counted(texts, digits).counts == cut


@settings(max_examples=100, deadline=None, derandomize=True)
@given(texts=st.lists(st.text("aąकि ன", max_size=40), max_size=30), most=st.integers(2, 12))
def test_counts_are_short_by_no_more_than_is_stated(texts: list[str], most: int) -> None:
    exact = counted(texts).counts
    words = counted(texts, most=most)
    assert sum(words.counts.values()) + words.dropped == sum(exact.values())
    for word, count in exact.items():
        assert count - words.shortfall <= words.counts[word] <= count
    if len(exact) <= most:
        assert (words.counts, words.shortfall) == (exact, 0)


def test_memory_is_bounded_by_the_number_of_words() -> None:
    words = WordCounts(word_cutter(), most=1000)
    for number in range(300):
        words.add([" ".join(f"{letter}{chr(0x905 + number % 40)}" * (1 + number % 7) for letter in "गमनपत")])
        words.add([" ".join("x" * length for length in range(1, 9))])
        words.add([chr(0x4E00 + number * 20 + offset) for offset in range(20)])
        assert len(words.counts) <= 1000 + 20
    assert words.shortfall > 0
    assert words.counts[" xx"] == 300  # what is frequent stays exact


def test_composed_form_is_counted_where_it_is_asked_for() -> None:
    decomposed = "zaz\u0307o\u0301\u0142c\u0301"
    assert set(counted([decomposed]).counts) == {decomposed}
    assert set(counted([decomposed], normalisation="nfc").counts) == {unicodedata.normalize("NFC", decomposed)}
