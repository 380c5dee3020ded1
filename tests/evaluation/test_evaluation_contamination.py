"""The seam between a corpus and an evaluation: the same items under the same hashes on both sides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest

from vernacular.corpus.configuration import Decontamination
from vernacular.corpus.decontamination.contamination import STANDINGS, TaskContamination, write_contamination
from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.items import pieces, read_benchmarks
from vernacular.evaluation.scores import read_scores
from vernacular.foundation.errors import UserError

SETTINGS = Decontamination(tasks=("t",))


def found(folder: Path, tasks: Path, *contaminated: int) -> Path:
    """A file that calls some items of every task contaminated."""
    known = {}
    for benchmark in read_benchmarks(SETTINGS, [tasks]):
        items = {standing: [] for standing in STANDINGS}
        for item in benchmark.items:
            items["contaminated" if item.number in contaminated else "removed"].append((item.number, item.hash))
        known[benchmark.name] = TaskContamination(benchmark.data_hash, items)
    write_contamination(folder / "contamination.json", known)
    return folder / "contamination.json"


def test_items_have_the_numbers_and_hashes_of_the_record(tasks: Path, fake_model, tmp_path: Path) -> None:
    evaluate(EvaluateConfiguration(), fake_model(), tasks, None, tmp_path / "out")
    benchmarks = read_benchmarks(SETTINGS, [tasks])
    assert [benchmark.name for benchmark in benchmarks] == ["capitals_answer", "capitals_choice"]
    for benchmark in benchmarks:
        rows = pyarrow.parquet.read_table(tmp_path / f"out/records/{benchmark.name}.parquet").to_pylist()
        assert {(row["item"], row["item_hash"]) for row in rows} == {(one.number, one.hash) for one in benchmark.items}
        asked = {row["prompt"].strip() for row in rows}
        assert {"\n".join(one.question) for one in benchmark.items} == asked
        assert {row["contamination"] for row in rows} == {"unknown"}


def test_contaminated_and_clean_items_are_scored_apart(tasks: Path, fake_model, capitals, tmp_path: Path) -> None:
    path = found(tmp_path, tasks, 0, 2)
    known = {question: answer for question, answer, _ in (capitals[0], capitals[2])}
    model = fake_model(answer=lambda prompt: known.get(prompt.strip(), "?"))
    settings = EvaluateConfiguration(only=("capitals_answer",))
    evaluate(settings, model, tasks, None, tmp_path / "out", contamination=path)
    scores = {
        score["subset"]: (score["value"], score["n"])
        for score in read_scores(tmp_path / "out")["scores"]
        if score["metric"] == "exact_match"
    }
    assert scores == {"all": (2 / 6, 6), "clean": (0.0, 4), "contaminated": (1.0, 2)}


def test_other_items_than_were_searched_for_are_refused(tasks: Path, fake_model, tmp_path: Path) -> None:
    path = found(tmp_path, tasks, 0)
    data = tasks / "capitals_choice.jsonl"
    data.write_text(data.read_text().replace("Wales", "Cornwall"))
    with pytest.raises(UserError, match="other items than the task 'capitals_choice' has"):
        evaluate(EvaluateConfiguration(), fake_model(), tasks, None, tmp_path / "out", contamination=path)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="not a file of contaminated items"):
        path.write_text("{}")
        evaluate(EvaluateConfiguration(), fake_model(), tasks, None, tmp_path / "out", contamination=path)


def test_json_lines_have_the_hashes_of_a_task_of_the_same_data(make_task: Callable[..., Path], tmp_path: Path) -> None:
    items = [{"question": f"Where is {n}?", "choices": ["here", "there"], "label": 0, "note": None} for n in range(3)]
    folder = make_task(items)
    (task,) = read_benchmarks(SETTINGS, [folder])
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines/one.jsonl").write_bytes((folder / "one.jsonl").read_bytes())
    (lines,) = read_benchmarks(SETTINGS, [tmp_path / "lines"])
    assert (lines.name, lines.data_hash) == ("one", task.data_hash)
    assert [item.question for item in lines.items] == [item.question for item in task.items]
    with pytest.raises(UserError, match="have no field 'query'") as caught:
        read_benchmarks(Decontamination(tasks=("t",), fields=("query",)), [tmp_path / "lines"])
    assert "question, choices" in str(caught.value.fix)
    with pytest.raises(UserError, match="two tasks are called 'one'"):
        read_benchmarks(SETTINGS, [folder, tmp_path / "lines"])
    with pytest.raises(UserError, match="neither harness tasks nor JSON Lines"):
        (tmp_path / "nothing").mkdir()
        read_benchmarks(SETTINGS, [tmp_path / "nothing"])


def test_a_suite_and_patterns_choose(tasks: Path) -> None:
    chosen = Decontamination(tasks=("t",), only=("*_choice",))
    assert [benchmark.name for benchmark in read_benchmarks(chosen, [tasks])] == ["capitals_choice"]
    with pytest.raises(UserError, match="'krutrim-1' lacks tasks"):
        read_benchmarks(Decontamination(tasks=("t",), suite="krutrim-1"), [tasks])
    with pytest.raises(UserError, match="unknown task 'capital'"):
        read_benchmarks(Decontamination(tasks=("t",), only=("capital",)), [tasks])


def test_questions_are_cut_at_the_fields_and_lose_their_choices() -> None:
    doc = {"text": "Rain fell.", "q": "What fell?", "options": ["Rain", "Snow"], "answer": "Rain", "n": 3}
    text = "Passage: Rain fell.\nQuestion: What fell?\nA. Rain\nB. Snow\nAnswer:"
    assert pieces(text, doc) == ("Passage:", "Rain fell.", "Question:", "What fell?", "A.", "B.", "Answer:")
    assert pieces("What did fall?", doc) == ("What did fall?",)


def test_the_file_names_ids_and_hashes(tasks: Path, tmp_path: Path) -> None:
    value = json.loads(found(tmp_path, tasks, 4).read_text())
    ((number, hash_),) = value["tasks"]["capitals_choice"]["contaminated"]
    assert number == 4
    assert len(hash_) == len(value["tasks"]["capitals_choice"]["data"]) == 64


def test_the_built_in_tasks_of_a_suite(tmp_path: Path, shared_data: Path) -> None:
    sources = Decontamination(suite="krutrim-1", data=str(shared_data / "eval"), only=("foundry_arc_easy",))
    (benchmark,) = read_benchmarks(sources, [])
    assert benchmark.name == "foundry_arc_easy"
    assert len({item.hash for item in benchmark.items}) > 1000
