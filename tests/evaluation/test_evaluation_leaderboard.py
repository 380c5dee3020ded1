"""The page of several evaluations: right, escaped, and needing nothing else."""

from __future__ import annotations

import re
import xml.etree.ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.leaderboard import leaderboard
from vernacular.evaluation.suites.suite import read_suite
from vernacular.foundation.errors import UserError

TRAP = "<script>alert('x')</script>"


class Words(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def two(make_task, fake_model, tmp_path: Path) -> list[Path]:
    """Two evaluations of a task that is called as one of Krutrim-1's benchmarks; one folder has a name with a trap."""
    items = [{"question": f"{n}?", "choices": ["tak", "nie"], "label": n % 2} for n in range(6)]
    metadata = {"version": 1.0, "language": "mul", "metrics": ["foundry_acc"]}
    data = {"data_files": {"test": "foundry_copa.jsonl"}}
    folder = make_task(items, task="foundry_copa", dataset_kwargs=data, metadata=metadata)
    runs = [tmp_path / "base", tmp_path / TRAP.replace("/", "")]
    models = [
        fake_model(),
        fake_model(score=lambda prompt, text: -1.0 if (text == "nie") == (prompt[0] in "135") else -3.0),
    ]
    for run, model in zip(runs, models, strict=True):
        evaluate(EvaluateConfiguration(), model, folder, None, run)
    return runs


def test_the_page_has_table_plot_and_published_scores(two: list[Path]) -> None:
    page = leaderboard(two, read_suite("krutrim-1"))
    words = Words(page)
    assert "0.500" in words.text
    assert "1.000" in words.text
    assert "Llama2Chat-7B published" in words.text
    assert "0.545" in words.text  # Krutrim-1's average from its own rows.
    assert "15 missing" in words.text
    assert "copa: 0 examples, the suite has" not in words.text
    svg = xml.etree.ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    assert len([part for part in svg if part.get("class") == "interval"]) == 8
    assert len([part for part in svg if part.get("class") == "chance"]) == 4


def test_text_of_records_is_escaped_and_nothing_is_loaded(two: list[Path]) -> None:
    page = leaderboard(two, read_suite("krutrim-1"))
    words = Words(page)
    assert TRAP.replace("/", "") in words.text
    assert not {"script", "link", "img", "iframe", "object"} & set(words.tags)
    assert not [name for name in words.attributes if name.startswith("on") or name in ("src", "href")]
    assert re.findall(r"url\(|@import", page) == []


def test_no_run_and_one_run_twice_are_refused(two: list[Path]) -> None:
    with pytest.raises(UserError, match="nothing to compare"):
        leaderboard([])
    with pytest.raises(UserError, match="stands twice"):
        leaderboard([two[0], two[0]])


def test_the_verb_writes_the_page(two: list[Path], tmp_path: Path, run_cli) -> None:
    run_cli("leaderboard", *two, "-o", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (
        "did you mean 'krutrim-1'"
        in run_cli("leaderboard", *two, "-o", tmp_path / "page.html", "--suite", "krutrim1", code=2).stderr
    )
