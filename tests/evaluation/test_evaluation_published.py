"""The published scores against the cards themselves, read in place by a parser of this test's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vernacular.evaluation.benchmarks import find_benchmark
from vernacular.evaluation.published.scores import cards, published_scores
from vernacular.foundation.errors import UserError

SHARED_CARDS = Path(__file__).resolve().parents[2].parent / "shared" / "cards"
NUMBER = re.compile(r"^\**-?\d[\d.,]*\**(?: \(.*\))?$")
NO_SCORES = {"**Hyperparameter**", "Model Name", "Model"}
"""First cells of the headers of tables that hold no scores, but for IndicCOPA's, which has languages beside it."""


def card_text(name: str) -> str:
    path = SHARED_CARDS / f"{name}.md"
    if not path.is_file():
        pytest.skip("needs the reference cards in ../shared/cards, which are not here")
    return path.read_text(encoding="utf-8")


def printed_cells(text: str) -> list[tuple[str, str, str, str]]:
    """(section, row, column, cell) of every number in the card's tables of scores."""
    found = []
    header: list[str] = []
    section = ""
    wrapped = text.count("\n| |") > 100  # Param-1's card lies in the cells of one great table.
    for line in text.splitlines():
        if wrapped:
            line = line.removeprefix("|").removeprefix(" |").removesuffix("|").strip()
        cells = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell).strip() for cell in line.strip().strip("|").split("|")]
        if "|" not in line:
            header = []
        elif not header:
            header, section = cells, ""
        elif cells[0] and not any(cells[1:]):
            section = cells[0].strip("*")
        elif header[0] not in NO_SCORES or header[1] == "bn":
            for column, cell in zip(header[1:], cells[1:], strict=False):
                if NUMBER.match(cell):
                    found.append((section, cells[0].strip("*"), column.strip("*"), cell))
    return found


@pytest.mark.parametrize("card", cards())
def test_every_number_of_a_cards_tables_is_in_its_place(card: str) -> None:
    expected = printed_cells(card_text(card))
    ours = [
        (score.section, score.row, score.column, score.printed)
        for score in published_scores(card)
        if score.table != "model-index"
    ]
    assert sorted(ours) == sorted(expected)
    assert bool(expected) == (card != "granite-3.0-1b-a400m-instruct")  # Whose numbers stand in its front matter.


def test_granites_front_matter_is_in_its_place() -> None:
    front = card_text("granite-3.0-1b-a400m-instruct").split("---")[1]
    (index,) = yaml.safe_load(front)["model-index"]
    expected = [
        (index["name"], result["dataset"]["name"], result["metrics"][0]["name"], result["metrics"][0]["value"])
        for result in index["results"]
    ]
    ours = [
        (score.column, score.row, score.metric, score.value)
        for score in published_scores("granite-3.0-1b-a400m-instruct")
    ]
    assert ours == expected
    assert len(ours) == 23


@pytest.mark.parametrize(
    ("card", "numbers"),
    [
        ("bielik-7b-v0.1", 70),
        ("granite-3.0-1b-a400m-instruct", 23),
        ("krutrim-1-7b", 100),
        ("krutrim-2-12b", 174),
        ("param-1-2.9b-instruct", 90),
    ],
)
def test_figures_without_the_cards(card: str, numbers: int) -> None:
    scores = published_scores(card)
    assert len(scores) == numbers
    assert all(score.benchmark == "average" or find_benchmark(score.benchmark) for score in scores)


def test_a_cell_is_read_with_its_bold_and_its_note() -> None:
    scores = {(score.row, score.column): score for score in published_scores("krutrim-2-12b")}
    gsm8k = scores["GSM8K (0-shot) - EM", "llama-3.3-70B"]
    assert (gsm8k.value, gsm8k.shots, gsm8k.metric, gsm8k.printed) == (0.93, 8, "EM", "0.93 (8-shot, CoT)")
    winograd = next(score for score in published_scores("krutrim-1-7b") if score.row == "winograd")
    assert (winograd.model, winograd.value, winograd.bold) == ("Llama2Chat-7B", 0.8645, True)


def test_an_unknown_card_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"did you mean 'bielik-7b-v0\.1'"):
        published_scores("bielik-7b")
