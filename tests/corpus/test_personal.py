"""Personal data: planted in many forms among numbers that are none, and masked to the letter."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planted_personal import Planted, Planter
from vernacular.corpus.configuration import PersonalKind
from vernacular.corpus.personal import find_personal, mask

ROUNDS = range(12)
PLANTED = [each for seed in ROUNDS for each in Planter(seed).personal()]
OTHERS = [each for seed in ROUNDS for each in Planter(seed).others()]


def found_in(planted: Planted) -> list[tuple[str, str]]:
    spans = find_personal(planted.text, planted.language)
    return [(span.kind, planted.text[span.start : span.end]) for span in spans]


def test_recall_and_precision_on_planted_data() -> None:
    missed: Counter[str] = Counter()
    wrong: list[tuple[str, str, str]] = []
    for each in PLANTED:
        found = found_in(each)
        missed[each.kind] += (each.kind, each.piece) not in found
        wrong += [(*extra, each.text) for extra in found if extra != (each.kind, each.piece)]
    for each in OTHERS:
        wrong += [(*extra, each.text) for extra in found_in(each)]
    right = len(PLANTED) - missed.total()
    assert len(PLANTED) > 500 and len(OTHERS) > 300
    assert right / len(PLANTED) >= 0.98, +missed
    assert right / (right + len(wrong)) >= 0.95, wrong


def test_each_kind_is_found_nearly_always() -> None:
    for kind in {each.kind for each in PLANTED}:
        mine = [each for each in PLANTED if each.kind == kind]
        assert sum((kind, each.piece) in found_in(each) for each in mine) >= 0.95 * len(mine), kind


def test_masks_stand_where_the_data_stood_and_are_counted() -> None:
    planted = next(Planter(5).personal())
    texts = pa.array([planted.text, "Bez danych.", "Pisz: jan@example.pl, tel. 601 234 567."], pa.large_string())
    masked, counts = mask(texts, ["pl"] * 3, ["pesel", "email", "phone"])
    assert masked.to_pylist() == [
        planted.text.replace(planted.piece, "[PESEL]"),
        "Bez danych.",
        "Pisz: [EMAIL], tel. [PHONE].",
    ]
    assert [dict(each) for each in counts] == [{"pesel": 1}, {}, {"email": 1, "phone": 1}]


def test_only_the_kinds_asked_for_are_masked() -> None:
    texts = pa.array(["Pisz: jan@example.pl, tel. 601 234 567."], pa.large_string())
    assert mask(texts, ["pl"], ["phone"])[0].to_pylist() == ["Pisz: jan@example.pl, tel. [PHONE]."]
    assert mask(texts, ["pl"], [])[0] is texts


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("tel. 601 234 567, 602 345 678", ["phone", "phone"]),
        ("फ़ोन: ९८७६५ ४३२१०, ईमेल: a@b.in", ["phone", "email"]),
        ("a@b.pl;c@d.pl", ["email", "email"]),
        ("Zadzwoń. Zamówienie 601234567 czeka.", []),
        ("Order 9876543210. Call 9876543211.", ["phone"]),
        ("x@y", []),
        ("", []),
    ],
)
def test_several_in_one_text(text: str, kinds: list[str]) -> None:
    assert [span.kind for span in find_personal(text, "pl" if text.isascii() else "hi")] == kinds


PIECES = (
    "jan|@| (at) |wp.pl|okaxis|601 234 567|८९१२३ ४५६७८|+48|tel. |ul. |Długa\n|Hauptstraße |7|220 South Michigan Avenue|"
    "PL61 1090|109010140000071219812874|ABCPE1234F|8.8.8.|घर नं |, Delhi - 110 031| |\u00a0|–|é|ulice Dlouhá 3|4111 1111"
)


@given(
    st.lists(st.sampled_from(PIECES.split("|")), max_size=12).map("".join), st.sampled_from(["pl", "hi", "en", "de"])
)
@settings(max_examples=500, deadline=None)
def test_what_is_found_in_a_text_is_masked_in_a_batch(text: str, language: str) -> None:
    spans = Counter(span.kind for span in find_personal(text, language))
    others = ["nichts", "12"]
    kinds = get_args(PersonalKind)
    assert mask(pa.array([text, *others], pa.large_string()), [language] * 3, kinds)[1] == [spans, Counter(), Counter()]


@given(st.text(alphabet="0123456789٣५௭ +-./()@[]aAżकdot,:", max_size=60), st.sampled_from(["pl", "hi", "en", "und"]))
@settings(max_examples=300, deadline=None)
def test_spans_lie_in_the_text_in_order_and_apart(text: str, language: str) -> None:
    spans = find_personal(text, language)
    places = [place for span in spans for place in (span.start, span.end)]
    assert places == sorted(places) and all(span.start < span.end <= len(text) for span in spans)
