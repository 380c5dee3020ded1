"""Normalisation: what is repaired, and what must never change."""

from __future__ import annotations

import unicodedata

import ftfy
import ftfy.badness
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.corpus.configuration import Normalisation
from vernacular.corpus.normalisation import REPAIR, normalise, num_mojibake


def normalised(text: str, **settings: bool) -> str:
    return normalise(pa.array([text], pa.large_string()), Normalisation(**settings))[0][0].as_py()


UNTOUCHED = [
    "क्\u200dष और क्\u200cष में अंतर है।",
    "می\u200cخواهم به خانه بروم.",
    "„Zażółć gęślą jaźń” – rzekł… i poszedł.",
    "শ্রী \u200c রহমান, ১২৩।",
    "தமிழ் மொழி ௧௨",
    "“Curly” quotes’ stay",
    "ﬁne ligatures stay",
    "ภาษา\u200bไทย",
    "Fullwidth ＡＢＣ stays",
    "العربية\u200f نص",
    "a < b && c > d",
    "ଓଡ଼ିଆ ଭାଷା",
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_good_text_stays_as_it_is(text: str) -> None:
    assert normalised(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "text", ["Zażółć gęślą jaźń, rzekł wójt.", "नमस्ते दुनिया, कैसे हो?", "Größe ändern", "Příliš žluťoučký kůň"]
)
def test_mojibake_is_repaired(text: str) -> None:
    damaged = "".join(bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in text.encode())
    assert damaged != text
    assert normalised(damaged) == text
    assert normalised(damaged, repair=False) != text


def test_composition() -> None:
    assert normalised("o\u0301") == "ó"
    assert normalised("s\u0301c\u0301e\u0328") == "śćę"
    assert normalised("क\u093c") == "क\u093c"
    assert normalised("\u0958") == "क\u093c"


def test_controls_are_dropped_and_counted() -> None:
    texts, counts = normalise(pa.array(["a\x00b\x07", "dobrze", "x\x9dy"], pa.large_string()), Normalisation())
    assert texts.to_pylist() == ["ab", "dobrze", "xy"]
    assert counts.tolist() == [2, 0, 1]


def test_white_space_is_put_in_order() -> None:
    assert normalised("\ufeff a\u00a0 b\t\tc \r\n\r\n\r\n\r\n  d\u2028e\u00ad\u200b ") == "a b c\n\nd\ne"
    assert normalised("def f():\n    return  1  ", keep_indentation=True) == "def f():\n    return 1"


def test_entities() -> None:
    assert normalised("Ala &amp; kot &mdash; razem") == "Ala & kot — razem"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalised(text, repair=False)
    assert normalised(once, repair=False) == once
    assert unicodedata.is_normalized("NFC", once)


def test_remains_of_mojibake_are_counted() -> None:
    damaged = "नमस्ते दुनिया, यह एक वाक्य है".encode()[1:].decode("latin-1")
    counts = num_mojibake(pa.array([damaged, "यह ठीक है।", "Też dobrze, prawda?"], pa.large_string()))
    assert counts[0] > 5
    assert counts[1:].tolist() == [0, 0]


# Of every category of ftfy's, of what it mends beside mojibake, and plain letters.
_DAMAGE = "aZ \u00a0\n\n\t\r\x93\x9d\x07\ufeff&;amp<é·–…’“”«»¦¨†°²½€£©®ŁłĄąÃÂâžœŒØÙÎÐπΑΒАбВГРС√≈│╔×Äò\ufffd"


@given(st.text(alphabet=_DAMAGE, max_size=60))
@settings(max_examples=500, deadline=None)
def test_what_ftfy_would_mend_is_given_to_it(text: str) -> None:
    # "ąę" makes every text one that may be mojibake.
    text = f"ąę &amp;{text}"
    assert normalised(text) == normalised(ftfy.fix_text(text, REPAIR), repair=False)
    assert num_mojibake(pa.array([text], pa.large_string())).tolist() == [ftfy.badness.badness(text)]
