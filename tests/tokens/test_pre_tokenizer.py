"""No cut between a character and what extends it, in any script, by the engine that is used."""

from __future__ import annotations

import random
import unicodedata

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from vernacular.tokens.pre_tokenizer import split_pattern

GRAPHEME = regex.compile(r"\X")
EXTENDER = regex.compile(r"[\p{M}\p{Grapheme_Extend}\p{Emoji_Modifier}\u200D]")


SPLITS = {
    digits: pre_tokenizers.Split(Regex(split_pattern(digits)), behavior="isolated")
    for digits in ("individual", "groups")
}


def cut(text: str, digits: str = "individual") -> list[str]:
    return [piece for piece, _ in SPLITS[digits].pre_tokenize_str(text)]


def assert_no_mark_is_cut_off(text: str) -> None:
    """Each cut that is inside a grapheme cluster must not stand before something that extends."""
    inside = set(range(len(text))) - {match.start() for match in GRAPHEME.finditer(text)}
    for digits in SPLITS:
        pieces = cut(text, digits)
        assert "".join(pieces) == text
        position = 0
        for piece in pieces:
            if position in inside:
                assert not EXTENDER.match(text[position]), (text, pieces)
            position += len(piece)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("हिन्दी में लिखना", ["हिन्दी", " में", " लिखना"]),
        ("தமிழ் மொழி", ["தமிழ்", " மொழி"]),
        ("বাংলা ভাষা", ["বাংলা", " ভাষা"]),
        ("കേരളം", ["കേരളം"]),
        ("क्‍ष می‌خواهم", ["क्‍ष", " می‌خواهم"]),
        ("it's l'eau п'ять s’il col·lecció צה״ל", ["it's", " l'eau", " п'ять", " s’il", " col·lecció", " צה״ל"]),
        ("'tak' boys'", ["'", "tak", "'", " boys", "'"]),
        ("w 2024 r.", ["w", " ", "2", "0", "2", "4", " r", "."]),
        ("२०२४ ١٢٣", ["२", "०", "२", "४", " ", "١", "٢", "٣"]),
        ("1️⃣!", ["1️⃣", "!"]),
        ("👩‍👩‍👧👍🏽 🇮🇳", ["👩‍👩‍👧👍🏽", " 🇮🇳"]),
        ("a\n\n  b\r\n\tc   d", ["a", "\n\n", " ", " b", "\r\n", "\t", "c", "  ", " d"]),
        ("x\u00a0\u093e", ["x", "\u00a0\u093e"]),
        ("है।", ["है", "।"]),
    ],
)
def test_words_digits_and_symbols_are_cut_as_written(text: str, pieces: list[str]) -> None:
    assert cut(text) == pieces


def test_digits_may_be_grouped() -> None:
    assert cut("12345 १२३४", "groups") == ["123", "45", " ", "१२३", "४"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=12))
@example("\u0301")
@example("!\u0e33 \u0e33 9\u0e33")
@example("\U0001f3fd a\U0001f3fd 1\U0001f3fd")
@example("\u200d\u200c \u200d1\u200d!\u200d")
def test_no_mark_is_cut_from_its_base_in_any_text(text: str) -> None:
    assert_no_mark_is_cut_off(text)


def test_no_mark_is_cut_from_its_base_in_texts_full_of_marks() -> None:
    assigned = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")]
    marks = [character for character in assigned if EXTENDER.match(character)]
    near = list(" \t\r\n\u00a0\u2003\u2028\x85'’12٣aकি!👩🇮👍#·")
    draw = random.Random(0)
    assert len(marks) > 2000
    for _ in range(4000):
        kinds = draw.choices([assigned, marks, near], k=draw.randint(2, 9))
        assert_no_mark_is_cut_off("".join(draw.choice(kind) for kind in kinds))


def test_a_split_without_marks_fails_the_same_check() -> None:
    letters_only = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"
    pieces = pre_tokenizers.Split(Regex(letters_only), behavior="isolated").pre_tokenize_str("हिन्दी")
    assert len(pieces) == 6
