"""The counters in C against the arithmetic on code points, and against plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.corpus.codepoints import (
    DIGIT,
    JOINER,
    LETTER,
    MARK,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    CodePoints,
    script_codes,
    script_table,
)
from vernacular.corpus.counting.counts import Counts, count, count_general, count_scripts, lines_of
from vernacular.corpus.words import Words, lines
from vernacular.foundation.errors import UserError

ALPHABET = "aBcż ZŁ.?!,-#{•…\n\n\t12कि्षत्रा।தமிழ்กขか漢。\u200d\u200céÉ\ufffd\"'()"
texts_of_many_scripts = st.lists(st.text(alphabet=ALPHABET, max_size=80), min_size=1, max_size=6)


def array(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def counted(*texts: str, language: str = "und") -> Counts:
    return count(array(list(texts)), [language] * len(texts))


@given(texts_of_many_scripts)
@settings(max_examples=150, deadline=None)
def test_characters_words_and_lines_as_the_arrays_have_them(texts: list[str]) -> None:
    points = CodePoints.of(array(texts))
    words = Words(CodePoints.of(array([text.lower() for text in texts])))
    counts = counted(*texts)
    for kind, name in [
        (LETTER, "letters"),
        (MARK, "marks"),
        (DIGIT, "decimals"),
        (PUNCTUATION, "punctuation"),
        (SYMBOL, "symbols"),
    ]:
        np.testing.assert_array_equal(counts[name], points.count(points.classes == kind), name)
    np.testing.assert_array_equal(counts["visible"], points.count(points.classes != SPACE))
    np.testing.assert_array_equal(counts["graphemes"], points.count(points.graphemes))
    np.testing.assert_array_equal(counts["words"], points.count(points.word_starts))
    again = np.bincount(words.hashes.documents[words.hashes.repeated()], minlength=len(texts))
    np.testing.assert_array_equal(counts["distinct_words"], words.counts - again)
    for document, text in enumerate(texts):
        visible = [line for line in text.split("\n") if line.strip()]
        assert counts["lines"][document] == len(visible)
        assert counts["newlines"][document] == text.count("\n")
    hashes, lengths = lines(points)
    assert len(hashes.values) >= counts["lines"].sum() and lengths.sum() >= counts["line_characters"].sum()


@given(texts_of_many_scripts)
@settings(max_examples=150, deadline=None)
def test_what_the_general_rules_measure_as_the_arrays_have_it(texts: list[str]) -> None:
    points = CodePoints.of(array([text.lower() for text in texts]))
    words, kinds = Words(points), points.classes
    counts = count_general(array(texts), ["und"] * len(texts))
    grams = words.hashes.ngrams(5)
    hashes, lengths = lines(points)
    expected = {
        "graphemes": points.count(points.graphemes),
        "visible": points.count(kinds != SPACE),
        "written": points.count((kinds == LETTER) | (kinds == MARK) | (kinds == JOINER)),
        "decimals": points.count(kinds == DIGIT),
        "symbols": points.count(kinds == SYMBOL),
        "words": words.counts,
        "word_graphemes": points.count(points.graphemes & points.in_word),
        "spelt_words": points.count(points.word_starts & (kinds != DIGIT)),
        "ngrams": np.maximum(words.counts - 4, 0),
        "repeated_ngrams": np.bincount(grams.documents[grams.repeated()], minlength=len(texts)),
        "line_characters": np.bincount(hashes.documents, lengths, minlength=len(texts)),
        "repeated_line_characters": np.bincount(
            hashes.documents[hashes.repeated()], lengths[hashes.repeated()], minlength=len(texts)
        ),
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(counts[name], values, name)
    by_script = count_scripts(array(texts))
    letters = script_table()[points.values[kinds == LETTER]]
    for number, script in enumerate(script_codes()):
        assert by_script[:, number].sum() == (letters == number).sum(), script


def test_the_commonest_word_is_no_stop_word_and_no_letter() -> None:
    texts = ["the cat, the dog, the cat.", "x y x y x y xy", "żółw i żółw, kot", "漢漢漢 漢字 a"]
    counts = count_general(array(texts), ["en", "und", "pl", "ja"])
    assert counts["commonest_word"].tolist() == [2, 0, 2, 0]
    assert counts["stop_words"].tolist() == [3, 0, 1, 0]


def repeated_characters(words: list[str], size: int) -> int:
    """Characters of n-grams that stood before, by plain Python: after a repetition the next begins behind it."""
    seen: set[tuple[str, ...]] = set()
    total = index = 0
    while index + size <= len(words):
        gram = tuple(words[index : index + size])
        if gram in seen:
            total += sum(map(len, gram))
            index += size
        else:
            seen.add(gram)
            index += 1
    return total


@given(st.lists(st.sampled_from(["raz", "dwa", "तीन", "चार", "ஐந்து", "Raz"]), min_size=1, max_size=60))
@settings(max_examples=150, deadline=None)
def test_ngrams_as_plain_python_counts_them(words: list[str]) -> None:
    counts = counted(" ".join(words))
    for size in (2, 3, 4):
        grams = Counter(tuple(words[index : index + size]) for index in range(len(words) - size + 1))
        most = max(grams.values(), default=1)
        first = next((gram for gram in grams if grams[gram] == most), ())
        expected = len(" ".join(first)) * most if most > 1 else 0
        assert counts[f"top_{size}_grams"][0] == expected
    for size in range(5, 11):
        assert counts[f"repeated_{size}_grams"][0] == repeated_characters(words, size)


def test_lines_and_paragraphs_that_stood_before() -> None:
    counts = counted("Ala ma kota.\nUla ma psa.\n\nAla ma kota.\nUla ma psa.\n\nKoniec.  \n   \nKoniec.")
    assert counts["paragraphs"][0] == 4 and counts["repeated_paragraphs"][0] == 2
    assert counts["repeated_lines"][0] == 3
    assert counts["repeated_line_characters"][0] == len("Ala ma kota.Ula ma psa.Koniec.")
    assert counts["repeated_paragraph_characters"][0] == len("Ala ma kota.\nUla ma psa.Koniec.")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Raz. Dwa! Trzy?", 3),
        ("एक। दो। तीन।", 3),
        ("一。二。三。", 3),
        ("He said: “Stop.” Then 3.14 came", 2),
        ("ایک۔ دو۔", 2),
        ("no end", 1),
        ("", 0),
    ],
)
def test_sentences(text: str, sentences: int) -> None:
    assert counted(text)["sentences"][0] == sentences


def test_lists_of_words_belong_to_their_language() -> None:
    text = "The house that he had was on a hill and it was old."
    assert counted(text, language="en")["stop_words"][0] == 10
    assert counted(text, language="en")["distinct_stop_words"][0] == 9
    assert counted(text, language="de")["stop_words"][0] == 0
    assert counted("यह घर का है", language="hi")["stop_words"][0] == 3
    assert counted("Co za pizda!", language="pl")["profanities"][0] == 1
    assert counted("Co za pizda!", language="en")["profanities"][0] == 0


def test_phrases_are_found_where_all_their_words_stand_in_a_line() -> None:
    texts = ["Read our PRIVACY policy.\nA policy\nof privacy.", "पढ़ें: गोपनीयता नीति", "private policy"]
    found = lines_of(array(texts), ["und"] * 3)
    assert found.have("policy").tolist() == [True, False, False, True, False]
    assert found.documents.tolist() == [0, 0, 0, 1, 2]
    cut = [texts[d].encode()[a:b].decode() for d, a, b in zip(found.documents, found.starts, found.ends, strict=True)]
    assert cut == [line for text in texts for line in text.split("\n")]


def test_a_slice_of_an_array_and_no_text_at_all() -> None:
    whole = array(["jeden", "dwa trzy", "cztery pięć sześć"])
    assert count(whole.slice(1), ["pl", "pl"])["words"].tolist() == [2, 3]
    assert count(whole.slice(3), []).values.shape[0] == 0
    assert counted("")["characters"].tolist() == [0]


def test_an_unknown_count_names_the_nearest() -> None:
    with pytest.raises(UserError, match="'word'") as caught:
        counted("a")["word"]
    assert "words" in str(caught.value.fix)
