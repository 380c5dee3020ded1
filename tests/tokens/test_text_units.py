"""Words and clusters counted over arrays are those that regular expressions find, text by text."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vernacular.tokens.text_units import count_units

CLUSTER = regex.compile(r"\X")
WORD = regex.compile(r"[\p{L}\p{M}\p{N}\u200C\u200D]+")
# The library joins a linker and a consonant whatever stands before them; the rule (GB9c) asks for a consonant.
ORPHANED_LINKER = regex.compile(
    r"(?<!\p{InCB=Consonant}[\p{InCB=Extend}\p{InCB=Linker}]*)[\p{InCB=Extend}\p{InCB=Linker}]*\p{InCB=Linker}"
    r"[\p{InCB=Extend}\p{InCB=Linker}]*\p{InCB=Consonant}"
)
# What the rules speak of, often: flags, families, conjuncts, Hangul, line ends, prepended marks.
TRICKY = "\r\n\t aक्षत्र\u094d\u200d\u200c\u0600\u0d4e👩👧\U0001f3fd❤\ufe0f🇮🇳🇵한글ᄀ가각ᅡᆨ\u0e33คกำ\U000e0067\u0301"
TRICKY += "\x00\u2028ক্ষশ্রি"
tricky = st.text(st.one_of(st.sampled_from(TRICKY), st.characters(exclude_categories=("Cs",))), max_size=30)


def assert_counts_are_right(texts: list[str]) -> None:
    texts = [text for text in texts if not ORPHANED_LINKER.search(text)]
    units = count_units(texts)
    assert units.graphemes.tolist() == [len(CLUSTER.findall(text)) for text in texts]
    assert units.words.tolist() == [len(WORD.findall(text)) for text in texts]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(texts=st.lists(tricky, max_size=5))
@example(texts=["", "🇮", "🇳🇮🇳", "\u200d👩", "क\u094d", "ष"])
def test_any_texts(texts: list[str]) -> None:
    assert_counts_are_right(texts)


def test_texts_of_all_characters(sentences: dict[str, list[str]], horrible: list[str]) -> None:
    assigned = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    draw = random.Random(0)
    texts = ["".join(draw.choices(draw.choice((assigned, TRICKY)), k=100)) for _ in range(400)]
    assert_counts_are_right([*texts, *horrible, *(text for group in sentences.values() for text in group)])


def test_a_linker_joins_consonants_only() -> None:
    assert count_units(["क्ष", "\u094dष", "a\u094dष", "क\u093c\u094d\u200dष"]).graphemes.tolist() == [1, 2, 2, 1]


def test_no_text_and_empty_texts_count_nothing() -> None:
    assert count_units([]).words.shape == (0,)
    assert np.array_equal(count_units(["", ""]).graphemes, [0, 0])
