"""Tasks scored while a model trains: the record of an evaluation at each step, and not a bit of the weights changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness_tasks import choice_task, write_task
from tests.tiny import make_tokenizer
from tests.tiny_training import settings

import tiny_recipe
from vernacular.evaluation.records import REQUEST_SCHEMA, read_rows, read_run
from vernacular.evaluation.scores import rescore
from vernacular.foundation.errors import UserError
from vernacular.lifecycle.evaluator import Evaluator, InTraining, draw_scores, evaluators, require_both
from vernacular.lifecycle.stage import Workplace
from vernacular.tokens.configuration import TokenizeConfiguration
from vernacular.tokens.tokenization import tokenize_documents
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.pretrain import pretrain

ITEMS = [
    {"question": "गाँव के पास", "choices": ["एक पुराना कुआँ", "deszcz"], "label": 0},
    {"question": "The ferry leaves", "choices": ["கரையில்", "when the tide turns"], "label": 1},
]


def write_tasks(folder: Path) -> Path:
    write_task(folder, choice_task("tide", metric_list=[{"metric": "acc"}, {"metric": "brier_score"}]), ITEMS)
    return folder


def test_a_run_is_evaluated_on_its_way_and_ends_in_the_same_bits(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    tokens = tmp_path / "tokens"
    tokenize_documents(TokenizeConfiguration(), tmp_path / "tokenizer-documents", tokenizer, tokens)
    tasks = write_tasks(tmp_path / "tasks")
    configuration = InTraining(every=4)
    for name in ("watched", "alone"):
        folder = tmp_path / name
        folder.mkdir()
        evaluator = Evaluator(configuration, tasks, tokenizer, folder / "evaluations", instruct=False)
        pretrain(
            settings(steps=6),
            tokens=tokens,
            tokenizer=tokenizer,
            weights=None,
            folder=folder,
            name="base",
            probes=[evaluator] if name == "watched" else (),
        )
    both = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("watched", "alone")]
    assert both[0] == both[1]
    lines = {line["step"]: line for line in read_metrics(tmp_path / "watched")}
    assert [step for step, line in lines.items() if line.get("scores/tide/acc") is not None] == [4, 6]
    for step in (4, 6):
        folder = tmp_path / f"watched/evaluations/step-{step:08d}"
        scores = {score.metric: score.value for score in rescore(folder)}
        assert scores == {key: lines[step][f"scores/tide/{key}"] for key in ("acc", "brier_score")}
        assert len(read_rows(folder / "records/tide.parquet", REQUEST_SCHEMA)) == 4
    draw_scores(tmp_path / "watched")
    assert (tmp_path / "watched/logs/scores.png").stat().st_size
    draw_scores(tmp_path / "alone")
    assert not (tmp_path / "alone/logs/scores.png").exists()


def test_half_of_what_it_takes_is_refused(tmp_path: Path) -> None:
    assert evaluators(None, Workplace("base", tmp_path, {}, ()), tmp_path, instruct=False) == []
    for evaluate, tasks in ((InTraining(every=5), None), (None, "tasks")):
        with pytest.raises(UserError, match="both `evaluate` and `evaluation_tasks`"):
            require_both(evaluate, tasks)


def test_tasks_that_are_not_there_are_refused_before_training(tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks")
    workplace = Workplace("base", tmp_path / "base", {"evaluation_tasks": tasks}, ())
    assert len(evaluators(InTraining(every=5, only=("ti*",)), workplace, tmp_path, instruct=False)) == 1
    with pytest.raises(UserError, match="unknown task 'tied'") as caught:
        evaluators(InTraining(every=5, only=("tied",)), workplace, tmp_path, instruct=False)
    assert caught.value.where == "evaluate.only"


def test_a_judge_is_refused_for_none_is_asked_on_the_way() -> None:
    with pytest.raises(ValueError, match="a judge grades in a stage `evaluate` only"):
        InTraining(every=5, judge="https://judge/v1")


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("processes", [1, 2])
def test_a_recipe_scores_on_its_way_as_the_stage_evaluate_does(processes: int, tmp_path: Path, run_cli) -> None:
    texts = tiny_recipe.write_texts(tmp_path / "texts")
    chats = tiny_recipe.write_conversations(tmp_path / "chats.jsonl")
    tasks = write_tasks(tmp_path / "tasks")
    watched = {"evaluation_tasks": str(tasks), "evaluate": {"every": 4, "template": "auto"}}
    batch = {"batch_tokens": 64 * processes, "steps": 6}
    changes = {name: {**watched, **batch} for name in ("base", "instruct")}
    for name in ("base", "instruct"):
        changes[f"{name}-scores"] = {"do": "evaluate", "weights": name, "tasks": str(tasks)}
    recipe = tiny_recipe.write_recipe(tmp_path / "tiny.yaml", texts, chats, **changes)
    run_cli("run", recipe, "--processes", str(processes), cwd=tmp_path)
    artifacts = tmp_path / "runs/tiny"
    for name in ("base", "instruct"):
        assert [path.name for path in sorted((artifacts / name / "evaluations").iterdir())] == [
            "step-00000004",
            "step-00000006",
        ]
        last, stage = artifacts / name / "evaluations/step-00000006", artifacts / f"{name}-scores"
        for file in ("scores.json", "scores.md", "records/run.json", "records/tide.parquet"):
            assert (last / file).read_bytes() == (stage / file).read_bytes(), file
        assert read_run(last / "records")["template"]["applied"] == (name == "instruct")
    compared = run_cli("compare", artifacts / "base/evaluations/step-00000006", artifacts / "instruct-scores").stdout
    assert "Two models" in compared
