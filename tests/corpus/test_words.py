"""Code points, graphemes, words and their hashes, in many scripts."""

from __future__ import annotations

import pyarrow as pa
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from vernacular.corpus.codepoints import CodePoints
from vernacular.corpus.words import Words, lines, phrase_hashes


def points_of(*texts: str) -> CodePoints:
    return CodePoints.of(pa.array(texts, pa.large_string()))


GRAPHEMES = [
    "क्षत्रिय ज्ञान",
    "स्त्री और हिन्दी",
    "বাংলা ভাষা স্ত্রী",
    "தமிழ் மொழி",
    "స్త్రీ వచ్చింది",
    "നമസ്കാരം",
    "ਸ੍ਰੀ ਮਾਨ",
    "ଓଡ଼ିଆ ଭାଷା",
    "Zażółć gęślą jaźń",
    "اردو زبان",
    "漢字とかな",
    "क्\u200dष",
]


@pytest.mark.parametrize("text", GRAPHEMES)
def test_graphemes_are_those_of_unicode(text: str) -> None:
    assert int(points_of(text).graphemes.sum()) == len(regex.findall(r"\X", text))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("हिन्दी में लिखना", 3),
        ("தமிழ் மொழி", 2),
        ("বাংলা ভাষা", 2),
        ("നമസ്കാരം, ലോകമേ!", 2),
        ("Zażółć gęślą jaźń.", 3),
        ("می\u200cخواهم بروم", 2),
        ("漢字とかな", 5),
        ("ภาษาไทย", 7),
        ("ab漢cd", 3),
        ("", 0),
        (" … ", 0),
    ],
)
def test_words_keep_their_marks(text: str, count: int) -> None:
    assert Words(points_of(text)).counts.tolist() == [count]


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=6))
def test_a_document_measures_the_same_alone_and_among_others(texts: list[str]) -> None:
    together = points_of(*texts)
    words = Words(together)
    for index, text in enumerate(texts):
        alone = points_of(text)
        assert together.count(together.graphemes)[index] == alone.graphemes.sum()
        mine = words.hashes.documents == index
        assert words.hashes.values[mine].tolist() == Words(alone).hashes.values.tolist()


@given(st.lists(st.sampled_from(["ala", "ma", "kota", "राम", "घर", "গাছ"]), max_size=40), st.integers(1, 6))
def test_repeated_ngrams_are_those_that_stood_before(words: list[str], size: int) -> None:
    grams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    expected = [gram in grams[:position] for position, gram in enumerate(grams)]
    assert Words(points_of(" ".join(words))).hashes.ngrams(size).repeated().tolist() == expected


def test_ngrams_do_not_cross_documents() -> None:
    words = Words(points_of("एक दो", "तीन चार पाँच"))
    assert words.hashes.ngrams(2).documents.tolist() == [0, 1, 1]
    assert words.hashes.ngrams(3).documents.tolist() == [1]


def test_lines_that_stood_before() -> None:
    hashes, lengths = lines(points_of("wlazł kotek\n\nna płotek\nwlazł kotek", "na płotek"))
    assert hashes.repeated().tolist() == [False, False, True, False]
    assert lengths.tolist() == [11, 9, 11, 9]


def test_phrases_are_found_whole_and_only_whole() -> None:
    known = phrase_hashes(["Polityka prywatności", "यहाँ क्लिक करें"])
    words = Words(points_of("to polityka prywatności", "polityka", "अब यहाँ क्लिक करें", "यहाँ क्लिक"))
    found = {size: words.hashes.ngrams(size) for size in known}
    documents = {
        int(document)
        for size, grams in found.items()
        for document in grams.documents[known[size].contains(grams.values)]
    }
    assert documents == {0, 2}
