"""Damage on purpose: every kind harms text of every script, more with a larger share, and the same way each time."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.corpus.quality.configuration import Damage
from vernacular.corpus.quality.damage.catalogue import FAMILIES, kinds
from vernacular.corpus.quality.damage.kind import Kind
from vernacular.corpus.quality.weak_labels import HIGH, LOW, MEDIUM, chosen_kinds, damaged_copies
from vernacular.foundation.errors import UserError

TEXTS = {
    "pl": "Rano ścieżka była mokra, bo w nocy padał deszcz. Zośka włożyła kalosze i poszła do szkoły. "
    "Po drodze spotkała listonosza; niósł ciężką torbę!\nPotem opowiedziała mamie. Czy jutro też będzie padać?",
    "hi": "सुबह रास्ता गीला था, क्योंकि रात में बारिश हुई थी। मीरा जूते पहनकर स्कूल गई। रास्ते में उसे डाकिया मिला!\n"
    "शाम को उसने यह बात माँ को बताई। क्या कल भी बारिश होगी?",
    "ta": "காலையில் பாதை ஈரமாக இருந்தது, ஏனெனில் இரவில் மழை பெய்தது. மீனா பள்ளிக்குச் சென்றாள். வழியில் தபால்காரரைக் கண்டாள்!\n"
    "மாலையில் அம்மாவிடம் சொன்னாள். நாளையும் மழை வருமா?",
    "en": "In the morning the path was wet, for it had rained at night. Mary put on her boots and walked to school. "
    "On the way she met the postman!\nIn the evening she told her mother about it. Will it rain tomorrow?",
}


def kept_share(text: str, damaged: str) -> float:
    pieces, others = (re.findall(r"\s+|\S+", one) for one in (text, damaged))
    matcher = SequenceMatcher(None, pieces, others, autojunk=False)
    return 2 * sum(block.size for block in matcher.get_matching_blocks()) / len(pieces + others)


def test_kinds_have_names_of_their_own_and_every_family_some() -> None:
    assert len({kind.name for kind in kinds()}) == len(kinds()) > 30
    assert len({kind.family for kind in kinds()}) == len(FAMILIES)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_a_kind_harms_text_of_every_script_and_more_with_a_larger_share(kind: Kind) -> None:
    for language, text in TEXTS.items():
        if language == "en" and kind.name == "misread_bytes":
            continue  # the bytes of ASCII are the same in every encoding
        lightly, heavily = (
            [kept_share(text, kind.spoil(text, language, share, Random(seed))) for seed in range(12)]
            for share in (0.15, 1.0)
        )
        assert min(heavily) < 1, language
        assert sum(heavily) < sum(lightly), language
        first, second = (kind.spoil(text, language, 0.5, Random(3)) for _ in range(2))
        assert first == second


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.sampled_from(kinds()), st.floats(0, 1))
def test_no_text_breaks_a_kind(text: str, kind: Kind, share: float) -> None:
    kind.spoil(text, "und", share, Random(1)).encode()


def test_copies_depend_on_the_document_and_the_seed_alone() -> None:
    wanted = Damage(copies=6)
    first = list(damaged_copies("a" * 32, TEXTS["pl"], "pl", wanted, 1))
    assert first == list(damaged_copies("a" * 32, TEXTS["pl"], "pl", wanted, 1))
    assert first != list(damaged_copies("a" * 32, TEXTS["pl"], "pl", wanted, 2))
    assert (first[0].text, first[0].grade, first[0].kind) == (TEXTS["pl"], HIGH, "")
    assert {example.grade for example in first[1:]} <= {MEDIUM, LOW}
    assert len({example.kind for example in first[1:]}) == len(first) - 1


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'shuffled_words'"):
        chosen_kinds(Damage(kinds=("shufled_words",)))
