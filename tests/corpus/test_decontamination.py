"""Items of benchmarks planted in documents: how many are found, what else is, and what becomes of the documents."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.corpus.configuration import CurateConfiguration, Decontamination, Normalisation
from vernacular.corpus.curation import curate
from vernacular.corpus.decontamination.benchmark import Benchmark, Item
from vernacular.corpus.decontamination.contamination import read_contamination
from vernacular.corpus.decontamination.index import build_index, defaults
from vernacular.corpus.decontamination.passages import find_passages, without_passages
from vernacular.corpus.decontamination.search import prepare_search
from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import UserError
from vernacular.foundation.ledger import Ledger

LETTERS = {
    "en": ("bcdfghjklmnpqrstvwxyz", ["a", "e", "i", "o", "u", "ea", "oo"], "Latn"),
    "pl": ("bcćdfghjklłmnńprsśtwzźż", ["a", "ą", "e", "ę", "i", "o", "ó", "u", "y"], "Latn"),
    "hi": ("कखगघचछजझटठडढणतथदधनपफबभमयरलवशसह", ["", "ा", "ि", "ी", "ु", "े", "ो", "ं", "्य"], "Deva"),
    "ta": ("கஙசஞடணதநபமயரலவழளறன", ["", "ா", "ி", "ீ", "ு", "ெ", "ை", "ோ", "்"], "Taml"),
    "th": ("กขคงจชซญดตถทธนบปผฝพฟมยรลวศสหอ", ["", "ะ", "า", "ิ", "ี", "ุ", "ู", "่"], "Thai"),
    "zh": ("".join(map(chr, range(0x4E00, 0x4E00 + 3000))), [""], "Hani"),
}
SPACE = {"th": "", "zh": ""}
ITEMS, PLANTED, VOCABULARY = 150, 90, 3000
SETTINGS = Decontamination(tasks=("t",))


class Writer:
    """Text of a language in words made up of its letters, frequent ones and rare ones."""

    def __init__(self, language: str) -> None:
        self.random = random.Random(language)
        consonants, vowels, self.script = LETTERS[language]
        pick = self.random.choice
        syllables = 1 if language == "zh" else 2
        self.words = ["".join(pick(consonants) + pick(vowels) for _ in range(syllables)) for _ in range(VOCABULARY)]
        self.weights = [1 / place for place in range(1, VOCABULARY + 1)]
        self.space = SPACE.get(language, " ")

    def text(self, least: int, most: int) -> str:
        return self.space.join(self.random.choices(self.words, self.weights, k=self.random.randint(least, most)))

    def disguised(self, text: str, number: int) -> str:
        """The text as it is, or in capitals, or between other marks and spaces."""
        if number % 3 == 1:
            return text.upper().replace(" ", "\n")
        if number % 3 == 2:
            return re.sub(" ", lambda space: space[0] + self.random.choice(["", "- ", "; "]), text)
        return text


def benchmark(*texts: str, name: str = "t") -> Benchmark:
    return Benchmark(name, tuple(Item(number, f"hash-{number}", (text,)) for number, text in enumerate(texts)))


def large(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


@pytest.mark.parametrize("language", LETTERS)
def test_planted_items_are_found_and_nothing_else(language: str) -> None:
    writer = Writer(language)
    size = defaults()["sizes"][writer.script]
    # Half of them shorter than a run, which are found as wholes.
    lengths = [(size // 2 + 1, size - 1), (size, 4 * size)]
    texts = [writer.text(*lengths[number % 2]) for number in range(ITEMS)]
    truth = [
        f"{writer.text(50, 200)}. {writer.disguised(text, number)}? {writer.text(50, 200)}"
        for number, text in enumerate(texts[:PLANTED])
    ]
    others = [writer.text(100, 400) for _ in range(300)]
    halves = [f"{writer.text(40, 80)}. {text[: len(text) // 2]}. {writer.text(40, 80)}" for text in texts[PLANTED:]]
    found = find_passages(large(truth + others + halves), build_index([benchmark(*texts)], SETTINGS, Normalisation()))
    pairs = set(zip(found.texts.tolist(), found.items.tolist(), strict=True))
    right = {(number, number) for number in range(PLANTED)}
    assert len(pairs & right) >= 0.99 * PLANTED
    assert len(pairs & right) >= 0.99 * len(pairs)


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="abc ąकि्ไ中'\u200d-.", max_size=300), st.integers(0, 200), st.text("xyz ", max_size=40))
def test_any_text_holds_itself_wherever_it_stands(text: str, seed: int, around: str) -> None:
    index = build_index([benchmark(text)], SETTINGS, Normalisation())
    before = random.Random(seed).choice(["", ". ", "\n"])
    found = find_passages(large([f"{around}{before or ' '}{text} {around}"]), index)
    assert found.items.tolist() == ([0] if index.owned[0] else [])
    assert len(found.span_texts) >= len(found.items)


def test_what_every_item_has_is_no_sign_of_any() -> None:
    instruction = "Read the question carefully and choose the one answer that fits it best of all"
    items = tuple(
        Item(number, str(number), (instruction, f"Which of the towns on road {number} was founded by miller {number}"))
        for number in range(6)
    )
    index = build_index([Benchmark("t", items)], SETTINGS, Normalisation())
    documents = large([instruction, f"{instruction}. {items[3].question[1]}", items[4].question[1]])
    found = find_passages(documents, index)
    assert (found.texts.tolist(), found.items.tolist()) == ([1, 2], [3, 4])


def test_a_beginning_that_many_questions_have_is_not_the_question() -> None:
    frame = "Which of the following is not included in the"
    bridges = "Who built the seven bridges of the old river town and when"
    items = [f"{frame} national budget", f"{frame} U.S. GDP", bridges]
    index = build_index([benchmark(*items)], SETTINGS, Normalisation())
    documents = [f"{frame} list of rivers?", items[1].upper(), bridges.replace("town", "city")]
    found = find_passages(large(documents), index)
    assert (found.texts.tolist(), found.items.tolist()) == ([1], [1])
    long = f"{bridges} did the ferry stop and the first carts cross it on their way to the autumn market"
    index = build_index([benchmark(long)], SETTINGS, Normalisation())
    assert find_passages(large([long.replace("carts", "wagons")]), index).items.tolist() == [0]


def test_short_questions_are_sought_with_their_answers_or_not_at_all() -> None:
    items = (Item(0, "a", ("Capital of Poland?",), "It is Warsaw"), Item(1, "b", ("2 + 2 =",), "4"))
    index = build_index([Benchmark("t", items)], SETTINGS, Normalisation())
    documents = large(["capital of poland: it is Warsaw!", "The capital of Poland is large. 2 + 2 = 4"])
    found = find_passages(documents, index)
    assert (found.texts.tolist(), found.items.tolist()) == ([0], [0])
    assert index.owned.tolist() == [6, 0]


def test_passages_go_with_a_margin_and_whole_words() -> None:
    item = "who planted the seven oaks behind the mill of the old village"
    text = f"{'Before it there was rain and wind. ' * 4}So: {item}? {'After it the sun came out again. ' * 4}"
    found = find_passages(large([text]), build_index([benchmark(item)], SETTINGS, Normalisation()))
    ((first, last),) = found.spans.tolist()
    assert text.encode()[first:last].decode() == item
    cut = without_passages(text, found.spans, SETTINGS.model_copy(update={"margin": 30, "minimum_characters": 20}))
    before, after = cut.split("\n\n")
    assert text.startswith(before) and text.strip().endswith(after)
    assert all(word in text.split() for word in cut.split())
    assert without_passages(text, found.spans, SETTINGS) == ""


# --------------------------------------------------------------------------------------------------- whole curations

PLACES = ["targu", "moście", "polu", "rynku", "dworcu", "strychu", "podwórku", "jeziorze", "wzgórzu", "statku"]
NAMES = ["Zofia", "Marek", "Hanna", "Jerzy", "Irena", "Tadeusz", "Wanda", "Bogdan", "Krystyna", "Leon"]
QUESTIONS = [
    f"Co {name} znalazła lub znalazł dawno temu na starym {place} obok studni, o której mówiła cała okolica?"
    for name, place in zip(NAMES, PLACES, strict=True)
]


def story(number: int) -> str:
    name, place = NAMES[number % 10], PLACES[number // 10 % 10]
    return (
        f"{name} codziennie rano bywa na {place} i rozmawia z sąsiadami o pogodzie. Potem wraca do domu, gotuje obiad "
        f"dla {number} osób i czyta gazetę, która leży na stole. Wieczorem w pokoju jest już cicho i bardzo ciepło."
    )


def write(folder: Path, texts: list[str], files: int) -> Path:
    folder.mkdir(parents=True)
    for place in range(files):
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts[place::files]]
        (folder / f"{place}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def corpus() -> list[str]:
    """Stories; of the questions 0 to 4 one each in a story, question 0 in two, one of which is a duplicate."""
    texts = [story(number) for number in range(40)]
    for number in range(5):
        texts[number] = f"{texts[number]} {QUESTIONS[number].upper()} {story(number + 60)} {story(number + 70)}"
    return [*texts, texts[0]]


def curated(source: Path, out: Path, action: str, **changes: Any) -> dict[str, Any]:
    given = {
        "sources": [{"name": "s", "path": str(source)}],
        "decontamination": {"tasks": ["t"], "action": action, "margin": 10, "minimum_characters": 50},
        "heldout": {"share": 0, "at_least": 0},
        "near_duplicates": {"enabled": False},
        "engine": {"workers": 1},
        **changes,
    }
    return curate(validate(CurateConfiguration, given), out, [benchmark(*QUESTIONS)])


def texts_in(folder: Path) -> list[str]:
    return [row["text"] for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("action", ["drop", "cut", "report"])
def test_documents_are_dropped_cut_or_left(action: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in", corpus(), 1)
    summary = curated(source, tmp_path / "out", action)
    standing = read_contamination(tmp_path / "out")["t"].items
    where = "contaminated" if action == "report" else "removed"
    assert [number for number, _ in standing[where]] == [0, 1, 2, 3, 4]
    assert [number for number, _ in standing["clean"]] == [5, 6, 7, 8, 9]
    report = json.loads((tmp_path / "out/report.json").read_text())
    documents = {"drop": (6, 0, 0), "cut": (0, 5, 1), "report": (0, 5, 1)}[action]
    assert report["benchmarks"]["t"]["documents"] == dict(zip(("dropped", "kept", "elsewhere"), documents, strict=True))
    left = texts_in(tmp_path / "out/documents/train")
    assert len(left) == {"drop": 35, "cut": 40, "report": 40}[action]
    assert any("STUDNI" in text for text in left) == (action == "report")
    assert (sum(summary["contaminated"].values()) > 0) == (action == "report")
    if action == "drop":
        details = {row["detail"] for row in pq.read_table(tmp_path / "out/removed").to_pylist()}
        assert "t item 3, 1.00 of it" in details
    if action == "cut":
        # What is left of a document, and nothing of the passage.
        assert sum("\n\n" in text for text in left) == 5


def test_the_same_for_any_files_order_and_parts(tmp_path: Path) -> None:
    texts = corpus()
    curated(write(tmp_path / "a", texts, 1), tmp_path / "one", "report", exact_duplicates={"unit": "line"})
    random.Random(5).shuffle(texts)
    curated(write(tmp_path / "b", texts, 7), tmp_path / "other", "report", exact_duplicates={"unit": "line"})
    for name in ("contamination.json", "documents/train/00000.parquet", "removed/00000.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_other_benchmarks_in_the_same_folder_are_searched_for_anew(tmp_path: Path) -> None:
    source = write(tmp_path / "in", corpus(), 1)
    curated(source, tmp_path / "out", "report")
    settings_ = validate(
        CurateConfiguration,
        {
            "sources": [{"name": "s", "path": str(source)}],
            "decontamination": {"tasks": ["t"], "action": "report"},
            "near_duplicates": {"enabled": False},
            "heldout": {"share": 0, "at_least": 0},
            "engine": {"workers": 1},
        },
    )
    curate(settings_, tmp_path / "out", [benchmark(QUESTIONS[8], QUESTIONS[3], name="u")])
    found = read_contamination(tmp_path / "out")
    assert list(found) == ["u"]
    assert [number for number, _ in found["u"].items["contaminated"]] == [1]


def test_an_index_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    given = {"sources": [{"path": "x"}], "decontamination": {"tasks": ["t"]}, "engine": {"memory": "0.01MB"}}
    ledger = Ledger.open(tmp_path, {})
    with pytest.raises(UserError, match="takes more than a quarter of the memory") as caught:
        prepare_search([benchmark(*QUESTIONS)], validate(CurateConfiguration, given), ledger)
    assert caught.value.where == "engine.memory"


@pytest.mark.slow
def test_the_same_from_two_processes(tmp_path: Path) -> None:
    source = write(tmp_path / "in", corpus(), 3)
    curated(source, tmp_path / "one", "cut")
    curated(source, tmp_path / "two", "cut", engine={"workers": 2})
    for name in ("contamination.json", "report.json", "documents/train/00000.parquet", "removed/00000.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_lines_that_are_dropped_take_their_items_with_them(tmp_path: Path) -> None:
    texts = [f"{story(number)}\n{QUESTIONS[7]}" for number in range(12)]
    curated(write(tmp_path / "in", texts, 3), tmp_path / "out", "report", exact_duplicates={"unit": "line"})
    assert sum(QUESTIONS[7] in text for text in texts_in(tmp_path / "out/documents/train")) == 1
    assert [number for number, _ in read_contamination(tmp_path / "out")["t"].items["contaminated"]] == [7]


def test_settings_and_benchmarks_come_together(tmp_path: Path) -> None:
    settings_ = validate(CurateConfiguration, {"sources": [{"path": "x"}], "decontamination": {"tasks": ["t"]}})
    with pytest.raises(UserError, match="come together") as caught:
        curate(settings_, tmp_path)
    assert "read_benchmarks" in str(caught.value.fix)
    with pytest.raises(UserError, match="unknown script 'Deve'"):
        build_index([benchmark("a")], Decontamination(tasks=("t",), sizes={"Deve": 3}), Normalisation())
    with pytest.raises(UserError, match="not searched for the items"):
        read_contamination(tmp_path)
