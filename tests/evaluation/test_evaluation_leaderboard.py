"""The page of several evaluations: right, escaped, and needing nothing else."""

from __future__ import annotations

import re
import xml.etree.ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vernacular.corpus.configuration import Decontamination
from vernacular.corpus.decontamination.contamination import STANDINGS, TaskContamination, write_contamination
from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.items import read_benchmarks
from vernacular.evaluation.leaderboard import leaderboard
from vernacular.evaluation.suites.selection import select
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


def test_only_the_better_of_runs_over_the_same_items_is_bold(two: list[Path], tmp_path: Path, fake_model) -> None:
    assert re.findall(r"<td><b>(.*?)</b>", leaderboard(two)).count("1.000") == 4
    assert "<td><b>" not in leaderboard(two[:1])
    tasks = tmp_path / "one"
    evaluate(EvaluateConfiguration(limit=3), fake_model(), tasks, None, tmp_path / "few")
    assert "<td><b>" not in leaderboard([two[0], tmp_path / "few"])


def test_what_stands_in_for_a_set_counts_for_no_headline(tmp_path: Path, fake_model) -> None:
    (tmp_path / "polish_wccrs_medicine").mkdir()
    lines = "\n".join(f"{label} Zabieg numer {number} ." for number, label in enumerate("0123" * 5))
    for split in ("train", "test"):
        (tmp_path / f"polish_wccrs_medicine/{split}.txt").write_text(lines, encoding="utf-8")
    suite = read_suite("open-pl-llm-leaderboard")
    selection = select(suite, tmp_path, only_available=True)
    model = fake_model(answer=lambda prompt: " C, bo")
    evaluate(EvaluateConfiguration(), model, None, None, tmp_path / "out", data=tmp_path, selection=selection)
    text = Words(leaderboard([tmp_path / "out"], suite)).text
    assert "25.00*" in text
    assert "out, polemo2_in_g*, which no headline counts: other data stood in" in text
    assert "22 missing" in text


def test_contaminated_items_stand_apart(tasks: Path, fake_model, tmp_path: Path) -> None:
    (benchmark,) = read_benchmarks(Decontamination(tasks=("t",), only=("capitals_choice",)), [tasks])
    standings: dict[str, list[tuple[int, str]]] = {standing: [] for standing in STANDINGS}
    for item in benchmark.items:
        standings["contaminated" if item.number < 2 else "removed"].append((item.number, item.hash))
    known = {benchmark.name: TaskContamination(benchmark.data_hash, standings)}
    write_contamination(tmp_path / "contamination.json", known)
    settings = EvaluateConfiguration(only=("capitals_choice",))
    where = tmp_path / "contamination.json"
    evaluate(settings, fake_model(), tasks, None, tmp_path / "out", contamination=where)
    text = Words(leaderboard([tmp_path / "out"])).text
    assert "capitals_choice (contaminated items)" in text
    assert "capitals_choice (clean items)" in text
