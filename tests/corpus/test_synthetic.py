"""The synthetic corpus: equal on every run, honest about what it holds out, true to its labels."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from difflib import SequenceMatcher
from pathlib import Path
from random import Random
from typing import Any

import ftfy
import pytest

from vernacular.corpus.synthetic.configuration import NoiseShares, SyntheticConfiguration
from vernacular.corpus.synthetic.facts import territories
from vernacular.corpus.synthetic.filling import fill_territory
from vernacular.corpus.synthetic.generator import SyntheticCorpus, generate
from vernacular.corpus.synthetic.held_out import HeldOut
from vernacular.corpus.synthetic.noise import break_encoding
from vernacular.corpus.synthetic.numerals import hindi_numbers, number_in_words
from vernacular.corpus.synthetic.templates import templates
from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import UserError

LANGUAGES = ("hi", "pl", "en")
SMALL = SyntheticConfiguration(documents=900, conversations=600)


@pytest.fixture(scope="module")
def corpus() -> SyntheticCorpus:
    return generate(SMALL)


@pytest.fixture(scope="module")
def documents(corpus: SyntheticCorpus) -> list[dict[str, Any]]:
    return list(corpus.documents())


@pytest.fixture(scope="module")
def conversations(corpus: SyntheticCorpus) -> list[dict[str, Any]]:
    return list(corpus.conversations())


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return HeldOut(SMALL)


def _labelled(documents: list[dict[str, Any]], label: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["label"] == label]


# --- determinism

_DIGEST = """
import hashlib, json
from vernacular.corpus.synthetic.configuration import SyntheticConfiguration
from vernacular.corpus.synthetic.generator import generate
corpus = generate(SyntheticConfiguration(documents=300, conversations=90))
made = [list(corpus.documents()), list(corpus.conversations()), corpus.questions()]
print(hashlib.sha256(json.dumps(made).encode()).hexdigest())
"""


def test_another_process_with_another_hash_seed_makes_the_same_bytes() -> None:
    digests = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", _DIGEST], env=environment, check=True, capture_output=True, text=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_another_seed_makes_other_documents(documents: list[dict[str, Any]]) -> None:
    others = generate(SMALL.model_copy(update={"seed": 2})).documents()
    assert not {document["text"] for document in _labelled(documents, "clean")} & {other["text"] for other in others}


def test_tasks_are_the_same_bytes_on_each_run(corpus: SyntheticCorpus, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        generate(SMALL).write_tasks(tmp_path / folder)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


# --- labels


def test_every_label_has_the_share_that_was_asked_for(documents: list[dict[str, Any]]) -> None:
    counts = Counter(document["label"] for document in documents)
    assert len(documents) == SMALL.documents
    for label in NoiseShares.model_fields:
        assert counts[label] == SMALL.documents * getattr(SMALL.noise, label), label
    assert set(counts) == {"clean", *NoiseShares.model_fields}


def test_documents_have_the_five_keys_and_plain_unicode(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        assert set(document) == {"text", "language", "label", "group", "provenance"}
        document["text"].encode("utf-8")
        if document["label"] == "clean":
            assert unicodedata.is_normalized("NFC", document["text"])
            assert document["language"] in LANGUAGES
            assert 60 <= len(document["text"]) <= 600


def test_clean_documents_differ_from_one_another(documents: list[dict[str, Any]]) -> None:
    """No two share as much as half of their word trigrams, so that removing near-duplicates takes none of them."""
    groups = defaultdict(list)
    for document in _labelled(documents, "clean"):
        words = document["text"].split()
        groups[document["language"]].append({tuple(words[i : i + 3]) for i in range(len(words) - 2)})
    for shingles in groups.values():
        for position, one in enumerate(shingles):
            for other in shingles[position + 1 :]:
                assert len(one & other) < 0.5 * len(one | other)


def test_repairable_text_is_repaired_to_a_clean_original(documents: list[dict[str, Any]]) -> None:
    for document in _labelled(documents, "repairable"):
        repaired = ftfy.fix_text(document["text"])
        assert repaired != document["text"]
        # Mojibake leaves runs like "Ã³" or "à¤"; what is repaired is made of the templates' own characters.
        assert not any(mark in repaired for mark in ("Ã", "à¤", "â€"))
        assert repaired == ftfy.fix_text(repaired)


@pytest.mark.parametrize(
    "text",
    [
        "नदी के किनारे एक छोटा गाँव है और वहाँ के लोग हर सुबह बाज़ार जाते हैं।",
        "Nad rzeką leży mała wieś, a jej mieszkańcy co rano chodzą na targ po świeże jabłka.",
        "There is a small village by the river, and its people go to the market each morning.",
    ],
)
def test_broken_text_cannot_be_repaired(text: str) -> None:
    for seed in range(40):
        repaired = ftfy.fix_text(break_encoding(text, Random(seed)))
        kept = SequenceMatcher(None, text, repaired, autojunk=False).ratio()
        assert kept < 0.95, repaired


def test_copies_share_a_group_with_a_longer_original_that_comes_first(documents: list[dict[str, Any]]) -> None:
    originals: dict[str, str] = {}
    for document in documents:
        if document["label"] == "near_duplicate":
            original = originals[document["group"]]
            assert len(document["text"]) < len(original)
            assert set(document["text"].split()) <= set(original.split())
        elif document["label"] == "exact_duplicate":
            assert document["text"].split() == originals[document["group"]].split()
        else:
            assert document["group"] not in originals
            originals[document["group"]] = document["text"]


def test_a_language_identifier_tells_the_wrong_languages(documents: list[dict[str, Any]]) -> None:
    import py3langid

    wrong = _labelled(documents, "wrong_language")
    assert {document["language"] for document in wrong} == {"de", "cs", "es", "mr", "ta", "uk"}
    for document in wrong:
        assert py3langid.classify(document["text"])[0] == document["language"], document["text"]


# --- what is held out


def test_held_out_numbers_and_dates_stand_nowhere(
    documents: list[dict[str, Any]], conversations: list[dict[str, Any]], held_out: HeldOut
) -> None:
    for document in documents:
        if document["label"] in ("clean", "near_duplicate", "exact_duplicate"):
            assert held_out.leaked(document["text"]) is None
        elif document["label"] == "repairable":
            assert held_out.leaked(ftfy.fix_text(document["text"])) is None
    for conversation in conversations:
        for message in conversation["messages"]:
            assert held_out.leaked(message["content"]) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_leak_would_be_seen(language: str, held_out: HeldOut) -> None:
    for number in held_out.numbers:
        assert held_out.leaked(f"… {number}.")
        assert held_out.leaked(f"… {number_in_words(number, language)}.")
    for day in held_out.dates:
        assert held_out.leaked(f"({day.isoformat()})")


def test_conversations_weigh_what_is_asked_one_after_the_other_in_every_language() -> None:
    settings = SMALL.model_copy(update={"weights": ("high", "low"), "conversations": 60})
    made = list(generate(settings).conversations())
    for language in LANGUAGES:
        weights = [conversation["weight"] for conversation in made if conversation["language"] == language]
        assert weights == ["high", "low"] * 10
    assert all("weight" not in conversation for conversation in generate(SMALL).conversations())


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_conversation_mentions_a_territory_that_is_asked_about(
    language: str, documents: list[dict[str, Any]], conversations: list[dict[str, Any]], held_out: HeldOut
) -> None:
    words = templates(language)
    asked = {
        fill_territory(words.questions.currencies.asked, territories(language)[position], words)
        for position in held_out.territories
    }
    said = {message["content"] for conversation in conversations for message in conversation["messages"]}
    assert len(asked) == SMALL.items
    assert not asked & said
    names = [territories(language)[position].name for position in held_out.territories]
    about_currencies = [
        message["content"]
        for conversation in conversations
        if conversation["language"] == language
        for message in conversation["messages"]
        if message["role"] == "user"
    ]
    taught = {territories(language)[position].name for position in held_out.taught}
    for name in names:
        for text in about_currencies:
            # A taught name may contain a held-out one ("South Korea" … "Korea").
            assert name not in text or any(name in other and other in text for other in taught), (name, text)
    written = " ".join(document["text"] for document in _labelled(documents, "clean"))
    assert sum(name in written for name in names) > 0.95 * len(names)


def test_items_are_well_formed(corpus: SyntheticCorpus, tmp_path: Path) -> None:
    names = corpus.write_tasks(tmp_path)
    assert len(names) == 12
    for name in names:
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert len(rows) == 200 and len({row["question"] for row in rows}) == 200
        if not name.startswith("digits"):
            assert all(len(set(row["choices"])) == 4 for row in rows)
            # Neither the place nor the length of the answer gives it away.
            assert max(Counter(row["target"] for row in rows).values()) < 75
            longest = sum(max(row["choices"], key=len) == row["choices"][row["target"]] for row in rows)
            shortest = sum(min(row["choices"], key=len) == row["choices"][row["target"]] for row in rows)
            assert max(longest, shortest) < 80


def test_the_questions_of_the_demo_have_their_answers(corpus: SyntheticCorpus, tmp_path: Path) -> None:
    corpus.write_tasks(tmp_path)
    written = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written == corpus.questions()
    assert [question["language"] for question in written] == list(LANGUAGES)


def test_the_harness_loads_the_tasks_and_makes_requests(
    corpus: SyntheticCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    from lm_eval.tasks import TaskManager

    names = corpus.write_tasks(tmp_path)
    monkeypatch.chdir(tmp_path)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    for name in ("numbers_hi", "digits_pl", "currencies_en"):
        assert name in names
        task = manager.load([name])["tasks"][name]
        task.build_all_requests(limit=3, rank=0, world_size=1)
        assert len(task.instances) == (3 if name.startswith("digits") else 12)
        context, continuation = task.instances[0].args[:2]
        assert context == task.test_docs()[0]["question"]
        assert name.startswith("digits") or continuation == task.test_docs()[0]["choices"][0]
        assert task.config.metadata["language"] == name[-2:]


# --- numbers and templates


def test_hindi_has_a_word_of_its_own_for_each_number_below_a_hundred() -> None:
    words = hindi_numbers().words
    assert len(words) == len(set(words)) == 100
    for word in words:
        assert all("DEVANAGARI" in unicodedata.name(character) for character in word)


@pytest.mark.parametrize(
    ("number", "language", "words"),
    [
        (0, "hi", "शून्य"),
        (19, "hi", "उन्नीस"),
        (29, "hi", "उनतीस"),
        (55, "hi", "पचपन"),
        (99, "hi", "निन्यानवे"),
        (100, "hi", "एक सौ"),
        (1001, "hi", "एक हज़ार एक"),
        (4521, "hi", "चार हज़ार पाँच सौ इक्कीस"),
        (250_000, "hi", "दो लाख पचास हज़ार"),
        (12_345_678, "hi", "एक करोड़ तेईस लाख पैंतालीस हज़ार छह सौ अठहत्तर"),
        (5022, "pl", "pięć tysięcy dwadzieścia dwa"),
        (1200, "pl", "tysiąc dwieście"),
        (4521, "en", "four thousand five hundred and twenty-one"),
    ],
)
def test_numbers_in_words(number: int, language: str, words: str) -> None:
    assert number_in_words(number, language) == unicodedata.normalize("NFC", words)


def test_number_words_of_an_unknown_language_are_refused() -> None:
    with pytest.raises(UserError, match="unknown language"):
        number_in_words(5, "xx")


def _shape(value: Any) -> Any:
    """Keys of a model at every depth, and the placeholders each text must carry."""
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    return type(value).__name__


def test_every_language_has_the_same_keys_and_as_many_wordings() -> None:
    reference = templates("hi").model_dump()
    for language in ("pl", "en"):
        other = templates(language).model_dump()
        assert _shape(other) == _shape(reference)
        for kind in reference["sentences"]:
            assert len(other["sentences"][kind]) == len(reference["sentences"][kind])


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_state_both_sides_of_their_fact(language: str) -> None:
    needed = {
        "currency": ("erritory}", "{currency}"),
        "languages": ("{territory}", "{languages}"),
        "number": ("{number}", "{words}"),
        "date": ("{iso}", "{date}"),
        "month": ("{month}", "{next}"),
    }
    sentences = templates(language).sentences.model_dump()
    for kind, placeholders in needed.items():
        for sentence in sentences[kind]:
            assert all(placeholder in sentence for placeholder in placeholders), sentence


def test_territories_are_the_same_places_in_every_language() -> None:
    codes = [[place.code for place in territories(language)] for language in LANGUAGES]
    assert codes[0] == codes[1] == codes[2]
    poland = {language: next(p for p in territories(language) if p.code == "PL") for language in LANGUAGES}
    assert [poland[language].name for language in LANGUAGES] == ["पोलैंड", "Polska", "Poland"]
    assert poland["pl"].currency == "złoty polski"


# --- configuration


def test_too_much_noise_is_refused() -> None:
    with pytest.raises(UserError, match="at least half"):
        validate(SyntheticConfiguration, {"noise": {"spam": 0.3, "boilerplate": 0.3}})


def test_a_language_twice_is_refused() -> None:
    with pytest.raises(UserError, match="twice"):
        validate(SyntheticConfiguration, {"languages": ["pl", "pl"]})


def test_one_language_alone_works() -> None:
    corpus = generate(SyntheticConfiguration(languages=("hi",), documents=90, conversations=30, items=5))
    assert {document["language"] for document in _labelled(list(corpus.documents()), "clean")} == {"hi"}
    digest = hashlib.sha256(json.dumps(list(corpus.conversations())).encode()).hexdigest()
    assert len(digest) == 64 and len(corpus.questions()) == 1
