"""A judged task, run: the model's answers turn by turn, the judge's verdicts on them, and the record of both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow

from vernacular.evaluation.answers import RememberingModel
from vernacular.evaluation.harness import TaskRun
from vernacular.evaluation.items import hash_of_item
from vernacular.evaluation.judge.asking import Asking, Judgement, Request
from vernacular.evaluation.judge.form import JudgeForm
from vernacular.evaluation.judge.metrics import JUDGE_METRICS, OF_GRADES, OF_PAIRS, OF_RUNS
from vernacular.evaluation.judge.prompts import comparing, grading, prompts, read_choice, read_grade, rules
from vernacular.evaluation.records import RECORDS, REQUEST_SCHEMA, Row, by_item, read_rows, write_rows
from vernacular.evaluation.tasks import LoadedTask, task_errors
from vernacular.foundation.errors import UserError
from vernacular.foundation.progress import progress
from vernacular.models.language_model import Message, Sampling

JUDGEMENTS = "judgements"

JUDGEMENT_SCHEMA = pyarrow.schema(
    [
        pyarrow.field("task", pyarrow.string(), nullable=False),
        pyarrow.field("item", pyarrow.int32(), nullable=False),
        pyarrow.field("request", pyarrow.int32(), nullable=False),
        pyarrow.field("kind", pyarrow.string(), nullable=False),
        pyarrow.field("run", pyarrow.int32(), nullable=False),
        pyarrow.field("verdict", pyarrow.string()),
        pyarrow.field("problem", pyarrow.string(), nullable=False),
        pyarrow.field("attempts", pyarrow.int32(), nullable=False),
        pyarrow.field("text", pyarrow.string(), nullable=False),
    ]
)
"""A verdict: `kind` is "grade", or "first" and "second" by the place of our answer in a pair; `request` is the turn."""


class Judging(NamedTuple):
    """What a judged task is run with.

    Attributes:
        asking: puts requests to the judge.
        folder: of the evaluation.
        runs: verdicts on each answer.
        against: an evaluation of another model on the same task; None for grades alone.
        limit: most items.
        seed: of the model's answers.
        standings: of items by hash, whether the training text held them; empty where that is not known.
    """

    asking: Asking
    folder: Path
    runs: int
    against: Path | None
    limit: int | None
    seed: int
    standings: Mapping[str, str]


class _Item(NamedTuple):
    number: int
    hash: str
    turns: list[str]
    category: str
    reference: list[str]


def check_judge(tasks: Sequence[LoadedTask], *, judge: bool, template: bool) -> None:
    """Refuse judged tasks without a judge, or for a model that cannot converse."""
    names = ", ".join(task.name for task in tasks if task.judge is not None)
    if names and not judge:
        raise UserError(
            f"{names}: answers are graded by a judge, and there is none",
            where="judge",
            fix="name an OpenAI-compatible server and its model with --judge URL --judge-model NAME, or leave the "
            "tasks out with --only",
        )
    if names and not template:
        raise UserError(
            f"{names}: the questions are conversations, and the model is asked without its chat template",
            where="template",
            fix="set template: always, or leave the tasks out with --only",
        )


def run_judged(task: LoadedTask, model: RememberingModel, judging: Judging) -> tuple[LoadedTask, TaskRun]:
    """Put a task's conversations to the model, and its answers to the judge.

    Returns:
        The task with the metrics that its verdicts give, and its rows: one for each turn of an item.
    """
    assert task.judge is not None
    prompts(task.language)
    items = _items(task, task.judge, judging.limit)
    rows = _answer(task, model, items, judging)
    verdicts = _verdicts(task, items, rows, judging)
    rows = [{**row, **_facts(verdicts, row)} for row in rows]
    _write(task, verdicts, judging.folder)
    chosen = (*OF_GRADES, *(OF_RUNS if judging.runs > 1 else ()), *(OF_PAIRS if judging.against else ()))
    by_items = by_item(rows)
    metrics: dict[str, dict[str, Any]] = {
        name: {} for name in chosen if not all(math.isnan(JUDGE_METRICS[name].of_item(one, {})) for one in by_items)
    }
    return replace(task, metrics=metrics), TaskRun(_unread(rows), [], {})


def _items(task: LoadedTask, form: JudgeForm, limit: int | None) -> list[_Item]:
    dataset = task.task.dataset
    with task_errors(task.name, task.path):
        references = {row[form.identifier]: list(row["turns"]) for row in dataset.get(form.references) or ()}
        found = []
        for number, record in enumerate(list(task.task.eval_docs)[:limit]):
            category = str(record[form.category])
            if category not in rules().temperatures:
                raise ValueError(f"item {number}: there is no temperature for the category '{category}'")
            reference = references.get(record[form.identifier], []) if category in rules().with_reference else []
            if category in rules().with_reference and not reference:
                raise ValueError(f"item {number}: a question of the category '{category}' has no reference answer")
            found.append(_Item(number, hash_of_item(record), list(record[form.turns]), category, reference))
    return found


# -------------------------------------------------------------------------------------------------- the answers


def _answer(
    task: LoadedTask, model: RememberingModel, items: Sequence[_Item], judging: Judging
) -> list[dict[str, Any]]:
    """The model's answers; every conversation's first turn before any second."""
    answers: dict[int, list[str]] = {item.number: [] for item in items}
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    with progress(doing=task.name, total=sum(len(item.turns) for item in items), unit="answers") as bar:
        for turn in range(max(len(item.turns) for item in items)):
            asked = [item for item in items if len(item.turns) > turn]
            samplings = [_sampling(item, judging.seed + item.number) for item in asked]
            texts = [model.render(_history(item, answers[item.number])) for item in asked]
            said = model.complete(texts, samplings, report=bar.update)
            for item, text, sampling, generation in zip(asked, texts, samplings, said, strict=True):
                answers[item.number].append(generation.text.strip())
                rows[item.number, turn] = _row(task, item, turn, text, sampling, generation.text, judging)
    return [rows[place] for place in sorted(rows)]


def _sampling(item: _Item, seed: int) -> Sampling:
    temperature = rules().temperatures[item.category]
    return Sampling(max_new_tokens=rules().answer_tokens, temperature=temperature, seed=seed if temperature else 0)


def _history(item: _Item, answers: Sequence[str]) -> list[Message]:
    history: list[Message] = []
    for turn, answer in zip(item.turns, answers, strict=False):
        history += [{"role": "user", "content": turn}, {"role": "assistant", "content": answer}]
    return [*history, {"role": "user", "content": item.turns[len(answers)]}]


def _row(
    task: LoadedTask, item: _Item, turn: int, prompt: str, sampling: Sampling, response: str, judging: Judging
) -> dict[str, Any]:
    return {
        "task": task.name,
        "filter": "none",
        "item": item.number,
        "item_hash": item.hash,
        "request": turn,
        "language": task.language,
        "prompt": prompt,
        "settings": json.dumps(sampling.model_dump(mode="json"), sort_keys=True),
        "response": response,
        "extracted": response.strip(),
        "parse_failure": False,
        "target": item.reference[turn : turn + 1],
        "contamination": judging.standings.get(item.hash, "unknown"),
    }


# ------------------------------------------------------------------------------------------------- the verdicts


class _Asked(NamedTuple):
    """Which verdict a request is for."""

    item: int
    turn: int
    kind: str
    run: int


Verdicts = Mapping[_Asked, Judgement[Any]]


def _verdicts(task: LoadedTask, items: Sequence[_Item], rows: Sequence[Row], judging: Judging) -> Verdicts:
    words = prompts(task.language)
    ours = _answers_by_item(rows)
    grades: dict[_Asked, Request[float]] = {}
    choices: dict[_Asked, Request[str]] = {}
    theirs = _others(task, items, judging.against) if judging.against else {}
    for item in items:
        own = ours[item.number]
        for turn in range(len(item.turns)):
            end = turn + 1
            turns, answers = item.turns[:end], own[:end]
            for run in range(judging.runs):
                asked = partial(_Asked, item.number, turn, run=run)
                messages = grading(words, turns, answers, item.reference[:end])
                grades[asked(kind="grade")] = Request(messages, run, read_grade)
                if item.number in theirs:
                    other = theirs[item.number][:end]
                    for kind, pair in (("first", (answers, other)), ("second", (other, answers))):
                        messages = comparing(words, turns, pair, item.reference[:end])
                        choices[asked(kind=kind)] = Request(messages, run, read_choice)
    found: dict[_Asked, Judgement[Any]] = {}
    found |= zip(grades, judging.asking.all(list(grades.values()), f"judging {task.name}"), strict=True)
    if choices:
        found |= zip(choices, judging.asking.all(list(choices.values()), f"comparing {task.name}"), strict=True)
    return found


def _answers_by_item(rows: Sequence[Row]) -> dict[int, list[str]]:
    return {item[0]["item"]: [row["extracted"] for row in item] for item in by_item(rows)}


def _others(task: LoadedTask, items: Sequence[_Item], folder: Path) -> dict[int, list[str]]:
    """Another model's answers to the same items."""
    rows = read_rows(folder / RECORDS / f"{task.name}.parquet", REQUEST_SCHEMA)
    by_hash = {item[0]["item_hash"]: [row["extracted"] for row in item] for item in by_item(rows)}
    missing = [item.number for item in items if len(by_hash.get(item.hash, ())) != len(item.turns)]
    if missing:
        raise UserError(
            f"the other evaluation lacks {len(missing)} of the {len(items)} conversations of '{task.name}'",
            where=folder,
            fix="evaluate the other model on the same questions, or give the same --limit",
        )
    return {item.number: by_hash[item.hash] for item in items}


def _facts(verdicts: Verdicts, row: Row) -> dict[str, Any]:
    """A turn's verdicts as its row has them."""
    own = sorted((asked.run, asked.kind, one.verdict) for asked, one in verdicts.items() if _is_of(asked, row))
    facts: dict[str, Any] = {"grades": [verdict for _, kind, verdict in own if kind == "grade"]}
    first, second = ([verdict for _, kind, verdict in own if kind == name] for name in ("first", "second"))
    if first:
        facts["pairs"] = [list(pair) for pair in zip(first, second, strict=True)]
    return {"facts": json.dumps(facts)}


def _is_of(asked: _Asked, row: Row) -> bool:
    return (asked.item, asked.turn) == (row["item"], row["request"])


def _unread(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows, with an item counted as unread where any of its answers has no grade."""
    unread = {row["item"] for row in rows if not any(one is not None for one in json.loads(row["facts"])["grades"])}
    return [{**row, "parse_failure": row["item"] in unread} for row in rows]


def _write(task: LoadedTask, verdicts: Verdicts, folder: Path) -> None:
    path = folder / RECORDS / JUDGEMENTS / f"{task.name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "task": task.name,
            "item": asked.item,
            "request": asked.turn,
            "kind": asked.kind,
            "run": asked.run,
            "verdict": None if one.verdict is None else str(one.verdict),
            "problem": one.problem,
            "attempts": one.attempts,
            "text": one.text,
        }
        for asked, one in sorted(verdicts.items())
    ]
    write_rows(path, rows, JUDGEMENT_SCHEMA)
