"""The answers to a task of programs are tried, and the record says how each trial went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow

from vernacular.evaluation.answer_file import AnswerFile
from vernacular.evaluation.code.form import CodeForm, FirstStep
from vernacular.evaluation.code.trial import Question, Result, Trials
from vernacular.evaluation.harness import TaskRun
from vernacular.evaluation.library.expressions import evaluated
from vernacular.evaluation.records import RECORDS, Row, write_rows
from vernacular.evaluation.tasks import LoadedTask, build_task, task_errors
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_json
from vernacular.foundation.machine import usable_cores
from vernacular.foundation.progress import progress

PROGRAMS = "programs"

PROGRAMS_SCHEMA = pyarrow.schema(
    [
        pyarrow.field("task", pyarrow.string(), nullable=False),
        pyarrow.field("item", pyarrow.int32(), nullable=False),
        pyarrow.field("request", pyarrow.int32(), nullable=False),
        pyarrow.field("language", pyarrow.string(), nullable=False),
        pyarrow.field("program", pyarrow.string(), nullable=False),
        pyarrow.field("test", pyarrow.string(), nullable=False),
        pyarrow.field("outcome", pyarrow.string(), nullable=False),
        pyarrow.field("limit", pyarrow.string()),
    ]
)
"""A trial: what was built, and how it went: "passed", "failed", "limit" or "not built"."""

TRIALS_SCHEMA = pyarrow.schema(
    [
        pyarrow.field("task", pyarrow.string(), nullable=False),
        pyarrow.field("item", pyarrow.int32(), nullable=False),
        pyarrow.field("request", pyarrow.int32(), nullable=False),
        pyarrow.field("reason", pyarrow.string(), nullable=False),
        pyarrow.field("output", pyarrow.string(), nullable=False),
        pyarrow.field("seconds", pyarrow.float64(), nullable=False),
        pyarrow.field("cpu_seconds", pyarrow.float64(), nullable=False),
        pyarrow.field("peak_bytes", pyarrow.int64(), nullable=False),
    ]
)
"""What a trial said and used, which no two runs share; it lies in the logs."""


class _Asked(NamedTuple):
    question: Question
    key: str


def code_form(task: LoadedTask) -> CodeForm:
    """The task's form; it must have one."""
    assert task.code is not None
    return task.code


def check_allowed(tasks: Sequence[LoadedTask], allowed: bool) -> None:
    """Refuse to run what a model wrote unless that was asked for."""
    names = [task.name for task in tasks if task.code is not None]
    if names and not allowed:
        raise UserError(
            f"{', '.join(names)}: these tasks run programs that the model writes",
            where="allow_code_execution",
            fix="give --allow-code-execution: they run in a sandbox without network and files, or are refused where "
            "the machine allows none; or leave the tasks out with --only",
        )


def check_samples(tasks: Sequence[LoadedTask], samples: int | None) -> None:
    """Refuse, before anything is asked, a pass@k of more programs than are written.

    Args:
        tasks: the tasks.
        samples: answers to each item; None as the task says.
    """
    for task in tasks:
        written = 0 if task.code is None else samples or task.code.samples
        most = max((int(name.removeprefix("pass@")) for name in task.metrics if name.startswith("pass@")), default=0)
        if task.code is not None and most > written:
            raise UserError(
                f"{task.name}: pass@{most} is of {most} programs or more for each item, and {written} would be written",
                where="samples",
                fix=f"give --samples {most} or more",
            )


class Trying(NamedTuple):
    """What running programs needs.

    Attributes:
        trials: where they run.
        answers: keeps results, so that a killed run goes on.
        folder: receives records/programs/TASK.parquet and logs/programs/TASK.parquet.
        samples: answers to each item; None as the task says.
    """

    trials: Trials
    answers: AnswerFile
    folder: Path
    samples: int | None


def run_programs(task: LoadedTask, ask: Callable[[LoadedTask], TaskRun], trying: Trying) -> TaskRun:
    """Put a task's items to the model, and try what it writes; `correct` says of each answer whether it passed."""
    form = code_form(task)
    samples = trying.samples or form.samples
    settings = task.task.config.generation_kwargs or {}
    if samples > 1 and not settings.get("temperature"):
        raise UserError(
            f"{samples} answers to each item of '{task.name}' would all be the same: its temperature is 0",
            where=task.path,
            fix="set a temperature and do_sample: true in its generation_kwargs, or --samples 1",
        )
    task.task.set_config("repeats", samples)
    if form.first is None:
        run = ask(task)
        return run._replace(rows=_try_rows(task, run.rows, trying))
    before = _ask_first(task, form.first, ask)
    _add_field(task, form.first, before)
    run = ask(task)
    # The field is the model's; the item is the same whatever the model makes of it.
    hashes = {row["item"]: row["item_hash"] for row in before}
    rows: list[Row] = [{**row, "item_hash": hashes[row["item"]]} for row in run.rows]
    return run._replace(rows=_try_rows(task, rows, trying))


def _ask_first(task: LoadedTask, step: FirstStep, ask: Callable[[LoadedTask], TaskRun]) -> list[Row]:
    """What the model says to each item beforehand."""
    name = f"{task.name}_{step.field}"
    changed: dict[str, Any] = {**task.config, **step.config, "task": name, "metadata": {"version": task.version}}
    changed |= {"metric_list": [{"metric": "exact_match"}], "unscored": True}
    return ask(build_task(name, task.path, changed, files=task.files, num_fewshot=0, seed=0)).rows


def _add_field(task: LoadedTask, step: FirstStep, rows: Sequence[Row]) -> None:
    """Give the items a field that holds what the model said to them."""
    said = {row["item"]: row["response"].strip() for row in rows}
    split = task.task.config.test_split or task.task.config.validation_split
    records = [dict(item) for item in task.task.dataset[split]]
    for number, record in enumerate(records):
        most = None
        if step.most_letters is not None:
            most = int(evaluated({"most_letters": step.most_letters}, record)["most_letters"])
        record[step.field] = said.get(number, "")[:most]
    task.task.dataset[split] = datasets.Dataset.from_list(records)


def _try_rows(task: LoadedTask, rows: Sequence[Row], trying: Trying) -> list[Row]:
    form, items = code_form(task), _items(task)
    asked = []
    for row in rows:
        with task_errors(task.name, task.path):
            question = form.question(items[row["item"]], form.code_of(row["response"]))
        asked.append(_Asked(question, sha256_json(["trial", form.language, *question, *trying.trials.limits])))
    _try(form.language, asked, trying, f"running {task.name}")
    results = [_known(trying.answers, one.key) for one in asked]
    _write(task, rows, asked, results, trying.folder)
    return [
        {**row, "extracted": form.code_of(row["response"]), "correct": result.outcome == "passed"}
        for row, result in zip(rows, results, strict=True)
    ]


def _items(task: LoadedTask) -> Mapping[int, Mapping[str, Any]]:
    return dict(enumerate(task.task.eval_docs))


def _try(language: str, asked: Sequence[_Asked], trying: Trying, doing: str) -> None:
    """Try what was not tried before; each result is on the disk when it is there."""
    missing = {one.key: one.question for one in asked if trying.answers.get(one.key) is None}
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        progress(doing=doing, total=len(asked), initial=len(asked) - len(missing), unit="programs") as bar,
    ):
        waiting = {pool.submit(trying.trials.run, language, question): key for key, question in missing.items()}
        for done in as_completed(waiting):
            result = done.result()
            trying.answers.add({waiting[done]: list(result)}, result.seconds)
            bar.update()


def _known(answers: AnswerFile, key: str) -> Result:
    found = answers.get(key)
    assert found is not None
    return Result(*found.value)


def _write(
    task: LoadedTask, rows: Sequence[Row], asked: Sequence[_Asked], results: Sequence[Result], folder: Path
) -> None:
    places = [{key: row[key] for key in ("task", "item", "request")} for row in rows]
    programs = [
        {
            **place,
            "language": code_form(task).language,
            "program": one.question.program,
            "test": one.question.test,
            "outcome": result.outcome,
            "limit": result.limit,
        }
        for place, one, result in zip(places, asked, results, strict=True)
    ]
    logs = [{**place, **result._asdict()} for place, result in zip(places, results, strict=True)]
    for path, schema, content in (
        (folder / RECORDS / PROGRAMS / f"{task.name}.parquet", PROGRAMS_SCHEMA, programs),
        (folder / "logs" / PROGRAMS / f"{task.name}.parquet", TRIALS_SCHEMA, logs),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        known = set(schema.names)
        write_rows(path, [{key: value for key, value in row.items() if key in known} for row in content], schema)
