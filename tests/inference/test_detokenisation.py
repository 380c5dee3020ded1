"""Text comes in whole characters and whole grapheme clusters, and the pieces add up to it."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.inference.answer import Answer, Pieces
from vernacular.inference.detokenisation import Clusters, Detokeniser, could_be_stop, find_stop
from vernacular.inference.model import LocalModel
from vernacular.models.language_model import Sampling

TEXTS = (
    "क्षत्रिय ने र्‍य और ज्ञान को स्त्रियों से पूछा।",
    "শ্রীলঙ্কার উচ্চারণ",
    "മലയാളത്തിൽ ക്ഷമിക്കണം",
    "நட்சத்திரங்கள் ஸ்ரீ",
    "สวัสดีครับ น้ำแข็ง",
    "Zażółć gęślą jaźń",
    "Z\u0301o\u0301łc\u0327 e\u0301\u0323",
    "family 👩‍👩‍👧‍👦 flags 🇮🇳🇵🇱🇺🇳 thumbs 👍🏽 keycap 1️⃣",
    "한국어 각각 각",
    "العَرَبِيَّةُ وَالشَّكْلُ",
    "שָׁלוֹם",
    "ខ្ញុំស្រឡាញ់",
    "བོད་སྐད་",
    "\r\n\r\n tabs\tand\r\nlines",
)
CHARACTERS = st.sampled_from(sorted({character for text in TEXTS for character in text}))
WRITING = st.one_of(st.sampled_from(TEXTS), st.lists(CHARACTERS, max_size=40).map("".join), st.text(max_size=20))


def boundaries(text: str) -> set[int]:
    return {match.end() for match in regex.finditer(r"\X", text)} | {0}


@given(text=WRITING, data=st.data())
@settings(max_examples=150, deadline=None)
def test_clusters_are_never_cut(text: str, data: st.DataObject) -> None:
    clusters, position, taken = Clusters(), 0, ""
    while position < len(text):
        step = data.draw(st.integers(1, 4))
        taken += clusters.push(text[position : position + step])
        position += step
        assert len(taken) in boundaries(text)
    assert taken + clusters.flush() == text


@pytest.mark.parametrize("text", TEXTS)
def test_all_but_the_last_cluster_is_passed_on(text: str) -> None:
    clusters = Clusters()
    last = regex.findall(r"\X", text)[-1]
    assert "".join(map(clusters.push, text)) == text.removesuffix(last)


@given(text=WRITING)
@settings(max_examples=100, deadline=None)
def test_tokens_of_a_text_come_back_without_broken_characters(lm: LocalModel, text: str) -> None:
    ids = lm.tokenizer.encode(text)
    detokeniser = Detokeniser(lm.tokenizer)
    pieces = [detokeniser.push(token) for token in ids]
    assert "".join(pieces) + detokeniser.flush() == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@given(ids=st.lists(st.integers(0, 419), max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_tokens_add_up_to_their_decoding(lm: LocalModel, ids: list[int]) -> None:
    detokeniser = Detokeniser(lm.tokenizer)
    assert "".join(map(detokeniser.push, ids)) + detokeniser.flush() == lm.tokenizer.decode(ids)


@given(text=WRITING, stops=st.lists(st.text(CHARACTERS, min_size=1, max_size=3), max_size=3))
@settings(max_examples=150, deadline=None)
def test_what_is_shown_adds_up_to_the_answer(lm: LocalModel, text: str, stops: list[str]) -> None:
    sampling = Sampling(max_new_tokens=10_000, stop=tuple(stops))
    answer = Answer([1], sampling, max_positions=20_000, end_ids=frozenset({2}), tokenizer=lm.tokenizer, follow=True)
    pieces, shown = Pieces(answer), ""
    for token in [*lm.tokenizer.encode(text), 2]:
        finished = answer.push(token)
        shown += "".join(pieces.take())
        if finished:
            break
        assert len(shown) in boundaries(text)
    places = [text.find(stop) for stop in stops if stop in text]
    earliest = find_stop(text, stops, 0)
    assert earliest == min(places, default=None)
    assert shown == answer.text
    if earliest is None:
        assert (answer.text, answer.stopped_by) == (text, "end")
    else:
        # A stop string that is complete ends the answer, though another one that began earlier might follow.
        assert answer.stopped_by == "stop"
        assert text.startswith(answer.text)
        assert any(text.startswith(stop, len(answer.text)) for stop in stops)


def test_the_beginning_of_a_stop_string_is_held_back() -> None:
    assert could_be_stop("ala\n", ["\n\nQ"]) == 1
    assert could_be_stop("ala\n\n", ["\n\nQ"]) == 2
    assert could_be_stop("ala", ["\n\nQ"]) == 0
    assert could_be_stop("ab", ["abc", "bd"]) == 2
    assert could_be_stop("", ["abc"]) == 0
    assert could_be_stop("abc", []) == 0
