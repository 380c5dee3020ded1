"""A model that was trained on a test set is caught: the corpus says which items, the evaluation what they are worth."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.harness_tasks import choice_task, write_task

import tiny_recipe
from tiny_training import SHAPE
from vernacular.corpus.decontamination.contamination import read_contamination
from vernacular.evaluation.scores import read_scores

COLOURS = ["red", "green", "blue", "white"]
FIRST = ["Maria", "Jan", "Asha", "Ravi", "Lena", "Tomas", "Uma", "Piotr"]
LAST = ["Nowak", "Rao", "Bauer", "Silva", "Kowal"]
ITEMS, SEEN = 40, 20


def questions() -> list[dict[str, Any]]:
    random_ = random.Random(3)
    people = [f"{first} {last}" for last in LAST for first in FIRST][:ITEMS]
    return [
        {
            "question": f"The front door of the house where {person} and the cat live is painted",
            "choices": [f" {colour}" for colour in COLOURS],
            "label": random_.randrange(4),
        }
        for person in people
    ]


def write_texts(folder: Path, items: list[dict[str, Any]]) -> Path:
    """Documents of other sentences, which begin with one of the first items and its answer, three with each."""
    folder.mkdir()
    random_ = random.Random(4)
    texts = []
    for item in items[:SEEN] * 3:
        others = [tiny_recipe.sentence("en", random_) for _ in range(2)]
        texts.append(" ".join([f"{item['question']}{item['choices'][item['label']]}.", *others]))
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


@pytest.mark.slow
def test_a_memorising_model_is_caught(tmp_path: Path, run_cli: Any) -> None:
    items = questions()
    tasks = tmp_path / "tasks"
    known = {"version": 1, "language": "en", "chance": 0.25}
    write_task(tasks, choice_task("doors", target_delimiter="", metadata=known), items)
    recipe = tiny_recipe.write_recipe(
        tmp_path / "tiny.yaml",
        write_texts(tmp_path / "texts", items),
        corpus={
            "languages": ["en"],
            "decontamination": {"tasks": [str(tasks)], "action": "report"},
            "near_duplicates": {"enabled": False},
            "heldout": {"share": 0, "at_least": 0},
            "engine": {"workers": 1},
        },
        base={
            "steps": 200,
            "sequence_length": 128,
            "batch_tokens": 1024,
            "checkpoint_every": 200,
            "log_every": 50,
            "model": {**SHAPE, "hidden_size": 64, "intermediate_size": 128},
        },
        scores={"do": "evaluate", "weights": "base", "tasks": str(tasks), "contamination": "corpus"},
    )
    run_cli("run", recipe, "--out", tmp_path / "runs")
    standing = read_contamination(tmp_path / "runs/tiny/corpus")["doors"].items
    assert [number for number, _ in standing["contaminated"]] == list(range(SEEN))
    assert [number for number, _ in standing["clean"]] == list(range(SEEN, ITEMS))
    found = read_scores(tmp_path / "runs/tiny/scores")["scores"]
    scores = {score["subset"]: score for score in found if score["metric"] == "acc"}
    assert {subset: score["n"] for subset, score in scores.items()} == {"all": 40, "contaminated": 20, "clean": 20}
    # What it has seen it knows; of the rest it can know nothing.
    assert scores["contaminated"]["value"] >= 0.9
    assert scores["contaminated"]["low"] > scores["clean"]["high"]
    table = (tmp_path / "runs/tiny/scores/scores.md").read_text()
    assert "contaminated" in table and "clean" in table
