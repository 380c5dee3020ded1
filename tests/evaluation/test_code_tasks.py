"""Tasks whose answers are programs: sampled, run, scored by pass@k, and recorded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from vernacular.evaluation.code.trial import Trials
from vernacular.evaluation.command import Places, evaluate_weights
from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.library.benchmark import library
from vernacular.evaluation.library.placing import place
from vernacular.evaluation.scores import read_scores, rescore
from vernacular.evaluation.suites.selection import Selection, Wanted
from vernacular.foundation.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")

SETS = Path(__file__).parents[3] / "shared" / "data" / "eval"
ALLOWED = EvaluateConfiguration(allow_code_execution=True)

ITEMS = [
    {
        "prompt": "def podwój(x):\n    '''Dwa razy x.'''\n",
        "solution": "    return 2 * x",
        "name": "podwój",
        "check": "podwój(2) == 4",
    },
    {
        "prompt": "def जोड़(a, b):\n    '''योग'''\n",
        "solution": "    return a + b",
        "name": "जोड़",
        "check": "जोड़(1, 2) == 3",
    },
    {
        "prompt": "def last(x):\n    '''The last.'''\n",
        "solution": "    return x[-1]",
        "name": "last",
        "check": "last([1, 2]) == 2",
    },
]
CODE = {
    "language": "python",
    "program": "prompt ~ answer ~ '\n'",
    "test": "'assert ' ~ check ~ '\n'",
    "entry_point": "name",
    "helpers": "prompt ~ solution",
}


@pytest.fixture
def functions(make_task):
    """`functions(**changes)`: a task over `ITEMS`, its `code` changed."""

    def make(metrics: list[str] | None = None, settings: dict[str, Any] | None = None, **code: Any) -> Path:
        return make_task(
            ITEMS,
            output_type="generate_until",
            doc_to_text="prompt",
            doc_to_choice=None,
            doc_to_target="solution",
            metric_list=[],
            generation_kwargs={"until": ["\ndef"], "max_gen_toks": 32, **(settings or {})},
            metadata={"version": 1, "language": "mul", "metrics": metrics or ["pass@1"], "code": {**CODE, **code}},
        )

    return make


def right(prompt: str) -> str:
    return next(item["solution"] for item in reversed(ITEMS) if item["prompt"] in prompt)


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(folder / f"{name}.parquet").to_pylist()


def test_programs_are_run_and_every_trial_is_in_the_record(functions, fake_model, tmp_path) -> None:
    model = fake_model(answer=lambda prompt: right(prompt) if "last" not in prompt else "    return x[0]")
    evaluate(ALLOWED, model, functions(), None, tmp_path / "out")
    (score,) = read_scores(tmp_path / "out")["scores"]
    assert (score["metric"], score["value"], score["n"], score["parse_failures"]) == (
        "pass@1",
        pytest.approx(2 / 3),
        3,
        0,
    )
    assert [row["correct"] for row in rows_of(tmp_path / "out/records", "one")] == [True, True, False]
    programs = rows_of(tmp_path / "out/records/programs", "one")
    assert [row["outcome"] for row in programs] == ["passed", "passed", "failed"]
    assert programs[2]["program"] == ITEMS[2]["prompt"] + "    return x[0]\n"
    logs = rows_of(tmp_path / "out/logs/programs", "one")
    assert logs[2]["reason"] == "AssertionError: " and 0 < logs[2]["seconds"] < 30
    assert rescore(tmp_path / "out")[0].value == score["value"]


def test_samples_differ_and_pass_at_any_k_is_computed_from_the_record(functions, fake_model, tmp_path) -> None:
    calls = iter(range(100))
    model = fake_model(answer=lambda prompt: right(prompt) if next(calls) % 4 < 2 else "    return None")
    tasks = functions(["pass@1", "pass@3"], {"do_sample": True, "temperature": 0.8}, samples=4)
    evaluate(ALLOWED, model, tasks, None, tmp_path / "out")
    scores = {score["metric"]: score["value"] for score in read_scores(tmp_path / "out")["scores"]}
    assert scores == {"pass@1": pytest.approx(0.5), "pass@3": pytest.approx(1.0)}
    assert len({sampling.seed for sampling in model.samplings}) == 12
    assert len(rows_of(tmp_path / "out/records", "one")) == 12
    again = {score.metric: score.value for score in rescore(tmp_path / "out", {"pass@2": {}})}
    assert again["pass@2"] == pytest.approx(1 - 1 / 6)
    with pytest.raises(UserError, match="pass@5 needs at least 5 samples per item, there are 4"):
        rescore(tmp_path / "out", {"pass@5": {}})
    asked = len(model.prompts)
    with pytest.raises(UserError, match="one: pass@3 is of 3 programs or more for each item, and 2 would be written"):
        evaluate(ALLOWED.model_copy(update={"samples": 2}), model, tasks, None, tmp_path / "few")
    assert len(model.prompts) == asked


def test_a_killed_run_tries_no_program_twice(functions, fake_model, tmp_path, monkeypatch) -> None:
    tasks = functions()
    evaluate(ALLOWED, fake_model(answer=right), tasks, None, tmp_path / "whole", answers=tmp_path / "one.jsonl")
    tried: list[str] = []
    run = Trials.run

    def counted(self: Trials, language: str, question: Any) -> Any:
        tried.append(question.program)
        if len(tried) == 2:
            raise KeyboardInterrupt
        return run(self, language, question)

    monkeypatch.setattr(Trials, "run", counted)
    monkeypatch.setattr("vernacular.evaluation.code.execution.usable_cores", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        evaluate(ALLOWED, fake_model(answer=right), tasks, None, tmp_path / "cut", answers=tmp_path / "two.jsonl")
    evaluate(ALLOWED, fake_model(answer=right), tasks, None, tmp_path / "cut", answers=tmp_path / "two.jsonl")
    assert len(tried) in (4, 5) and tried.count(ITEMS[0]["prompt"] + "    return 2 * x\n") == 1
    for name in ("records/one.parquet", "records/programs/one.parquet"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_code_is_taken_from_a_block_where_the_task_says_so(functions, fake_model, tmp_path) -> None:
    def chatty(prompt: str) -> str:
        return "Oto kod:\n```python\n" + right(prompt) + "\n```\nGotowe."

    evaluate(ALLOWED, fake_model(answer=chatty), functions(), None, tmp_path / "whole")
    evaluate(ALLOWED, fake_model(answer=chatty), functions(answer="block"), None, tmp_path / "block")
    values = [read_scores(tmp_path / name)["scores"][0]["value"] for name in ("whole", "block")]
    assert values == [0.0, 1.0]


def test_what_is_asked_beforehand_becomes_part_of_the_question(make_task, fake_model, tmp_path) -> None:
    first = {
        "field": "explanation",
        "most_letters": "prompt | length",
        "config": {"doc_to_text": "Opisz:\n{{prompt}}{{solution}}", "generation_kwargs": {"until": ["\n\n"]}},
    }
    tasks = make_task(
        ITEMS,
        output_type="generate_until",
        doc_to_text="Napisz: {{explanation | default('')}}\n{{prompt}}",
        doc_to_choice=None,
        doc_to_target="solution",
        metric_list=[],
        generation_kwargs={"until": ["\ndef"]},
        metadata={"version": 1, "metrics": ["pass@1"], "facts": ["explanation"], "code": {**CODE, "first": first}},
    )
    model = fake_model(answer=lambda prompt: "x" * 500 if prompt.startswith("Opisz") else right(prompt))
    evaluate(ALLOWED, model, tasks, None, tmp_path / "out")
    assert read_scores(tmp_path / "out")["scores"][0]["value"] == 1.0
    row = rows_of(tmp_path / "out/records", "one")[0]
    explanation = json.loads(row["facts"])["explanation"]
    assert explanation == "x" * len(ITEMS[0]["prompt"]) and f"Napisz: {explanation}\n" in row["prompt"]
    other = fake_model(answer=lambda prompt: "y" if prompt.startswith("Opisz") else right(prompt))
    evaluate(ALLOWED, other, tasks, None, tmp_path / "other")
    assert rows_of(tmp_path / "other/records", "one")[0]["item_hash"] == row["item_hash"]


def test_nothing_is_run_unless_that_is_allowed(functions, fake_model, tmp_path) -> None:
    model = fake_model(answer=right)
    with pytest.raises(UserError, match="one: these tasks run programs that the model writes") as caught:
        evaluate(EvaluateConfiguration(), model, functions(), None, tmp_path / "out")
    assert "--allow-code-execution" in str(caught.value) and model.prompts == []


def test_leave_to_run_programs_can_be_given_later(functions, fake_model, tmp_path) -> None:
    places = Places(model=str(tmp_path), folder=tmp_path / "out", tasks=functions())
    with pytest.raises(UserError, match="run programs that the model writes"):
        evaluate_weights(EvaluateConfiguration(), places, lambda folder: fake_model(answer=right))
    evaluate_weights(ALLOWED, places, lambda folder: fake_model(answer=right), resume=True)
    assert read_scores(tmp_path / "out")["scores"][0]["value"] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 2}, "2 answers to each item of 'one' would all be the same"),
        ({"language": "cobol"}, "unknown programming language 'cobol'"),
        ({"test": "nothing"}, "there is no such field"),
        ({"tests": "check"}, "unknown key 'tests'"),
    ],
)
def test_what_cannot_be_run_is_refused(functions, fake_model, tmp_path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(ALLOWED, fake_model(answer=right), functions(**changes), None, tmp_path / "out")


def test_pass_at_k_is_not_of_answers_that_were_not_run(tasks, fake_model, tmp_path) -> None:
    evaluate(EvaluateConfiguration(), fake_model(), tasks, None, tmp_path / "out")
    with pytest.raises(UserError, match="unknown metric 'pass@1'"):
        rescore(tmp_path / "out", {"pass@1": {}})


LIBRARY = [
    "humaneval",
    "foundry_humaneval_return_complex",
    "foundry_humaneval_js",
    "humaneval_explain_python",
    "humaneval_fix_js",
    "humaneval_fix_docs_python",
    "mbpp",
    "mbpp_sanitized",
    "mbpp_instruct",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", LIBRARY)
def test_a_model_that_knows_the_solutions_passes_the_librarys_tasks(name: str, fake_model, tmp_path) -> None:
    if not SETS.exists():
        pytest.skip(f"needs {SETS}")
    items = place(library()[name], SETS).splits["test"][:3]
    braces = library()[name].task.code.language != "python"

    def solution(item: dict[str, Any]) -> str:
        text = item.get("code") or item["canonical_solution"]
        if braces:
            return text.rstrip().removesuffix("}").rstrip()
        return "\n" + text if "return_" in name else text

    def answer(prompt: str) -> str:
        if "Do not write code" in prompt:
            return "It computes what its name says."
        asked = [(prompt.rfind(item.get("declaration") or item.get("text") or item["prompt"]), item) for item in items]
        return solution(max(asked, key=lambda pair: pair[0])[1])

    selection = Selection((Wanted(library()[name], None),), {})
    settings = EvaluateConfiguration(allow_code_execution=True, limit=3)
    evaluate(settings, fake_model(answer=answer), None, None, tmp_path / "out", data=SETS, selection=selection)
    reasons = [row["reason"] for row in rows_of(tmp_path / "out/logs/programs", name)]
    assert read_scores(tmp_path / "out")["scores"][0]["value"] == 1.0, reasons
