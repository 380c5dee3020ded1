"""A tokenizer without the pieces nobody uses: text of those that stay has its ids, renumbered; all text returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import published_folders
from vernacular.foundation.errors import UserError
from vernacular.tokens.configuration import TrimTokenizerConfiguration
from vernacular.tokens.template import ChatTemplate
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.trimming import trim_tokenizer

STAYING = {
    "kn": ["ಕನ್ನಡ ನಾಡಿನ ಹಬ್ಬಗಳು ಸುಂದರ.", "ಹಳ್ಳಿಯ ದಾರಿ ಉದ್ದವಾಗಿದೆ."],
    "en": ["The river isn't deep, but it's cold.", "Two boats by the shore."],
}
GOING = {
    "fr": ["L'été, l'eau du lac est tiède.", "Aujourd’hui, c’est dimanche et les enfants dorment."],
    "ur": ["دریا کے کنارے ایک پرانا باغ ہے۔"],
}
KINDS = ("granite", "krutrim_2", "mistral", "llama", "no_begin")


class Trimmed:
    """A tokenizer before and after, with its report and its map."""

    def __init__(self, old: Path, new: Path, report: dict[str, Any]) -> None:
        self.old, self.new, self.report = Tokenizer.load(old), Tokenizer.load(new), report
        ids = json.loads((new / "token_map.json").read_text(encoding="utf-8"))["ids"]
        self.renumbered = {old_id: int(new_id) for new_id, old_id in ids.items()}


@pytest.fixture
def documents(make_curated: Callable[..., Path]) -> Path:
    rows = [(language, text) for language, texts in {**STAYING, **GOING}.items() for text in texts]
    return make_curated(train=rows, heldout=rows)


@pytest.fixture
def trimmed(documents: Path, tmp_path: Path) -> Callable[..., Trimmed]:
    def make(kind: str, **configuration: Any) -> Trimmed:
        texts = [text for some in (STAYING, GOING) for texts in some.values() for text in texts]
        old = published_folders.write_folder(tmp_path / "old", getattr(published_folders, kind)(texts * 4))
        ChatTemplate.default().save(old)
        values = {"languages": tuple(STAYING), **configuration}
        report = trim_tokenizer(TrimTokenizerConfiguration(**values), old, documents, tmp_path / "new")
        return Trimmed(old, tmp_path / "new", report)

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_kept_pieces_has_its_ids_renumbered_and_all_text_returns(
    kind: str, trimmed: Callable[..., Trimmed]
) -> None:
    one = trimmed(kind)
    assert one.new.vocab_size == len(one.renumbered) < one.old.vocab_size
    assert sorted(one.renumbered.values()) == list(range(one.new.vocab_size)), "no gap, none twice"
    words = [word for texts in {**STAYING, **GOING}.values() for text in texts for word in text.split()]
    kept_texts = 0

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(words), max_size=8).map(" ".join)))
    def holds(text: str) -> None:
        nonlocal kept_texts
        old_ids, new_ids = one.old.encode(text), one.new.encode(text)
        if all(old_id in one.renumbered for old_id in old_ids):
            kept_texts += 1
            assert new_ids == [one.renumbered[old_id] for old_id in old_ids]
        assert one.new.decode(new_ids, skip_special=False) == one.old.decode(old_ids, skip_special=False)

    holds()
    assert kept_texts > 20, "the promise was held against texts that it speaks of"
    for language in STAYING:
        assert one.report["languages"][language]["documents_with_the_same_ids"] == 1
    for language in GOING:
        fit = one.report["languages"][language]
        assert fit["after"]["tokens"] > fit["before"]["tokens"]


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_and_what_is_put_first_stay(kind: str, trimmed: Callable[..., Trimmed]) -> None:
    one = trimmed(kind)
    assert one.new.control_tokens.keys() == one.old.control_tokens.keys()
    assert one.new.special_names == one.old.special_names
    assert one.new.begin_ids == tuple(one.renumbered[old_id] for old_id in one.old.begin_ids)
    text = f"{one.old.end_token}{STAYING['en'][0]}{one.old.end_token}"
    expected = [one.renumbered[old_id] for old_id in one.old.encode(text, special=True)]
    assert one.new.encode(text, special=True) == expected


@pytest.mark.parametrize("kind", ["granite", "krutrim_2", "no_begin"])
def test_transformers_reads_the_same_ids(kind: str, trimmed: Callable[..., Trimmed], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    one = trimmed(kind)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    for texts in {**STAYING, **GOING}.values():
        for text in texts:
            assert theirs(text, add_special_tokens=False)["input_ids"] == one.new.encode(text)


def test_a_piece_that_is_seldom_goes(trimmed: Callable[..., Trimmed], documents: Path, tmp_path: Path) -> None:
    often = trimmed("granite")
    configuration = TrimTokenizerConfiguration(languages=tuple(STAYING), min_count=3)
    seldom = trim_tokenizer(configuration, tmp_path / "old", documents, tmp_path / "seldom")
    assert seldom["vocab_size"] < often.report["vocab_size"]


def test_a_language_that_is_not_there_is_refused(trimmed: Callable[..., Trimmed]) -> None:
    with pytest.raises(UserError, match="'ta' is absent") as caught:
        trimmed("granite", languages=("kn", "ta"))
    assert "en, fr, kn, ur" in str(caught.value)
