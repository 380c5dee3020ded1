"""Weights get scores: tasks through the harness, bits per byte on held-out text, and a record to prove both."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vernacular.corpus.decontamination.benchmark import hash_of_data
from vernacular.corpus.decontamination.contamination import TaskContamination, read_contamination
from vernacular.evaluation import bits_per_byte
from vernacular.evaluation.answer_cache import code_hash
from vernacular.evaluation.answer_file import ANSWERS, AnswerFile
from vernacular.evaluation.answers import RememberingModel
from vernacular.evaluation.code.execution import Trying, check_allowed, check_samples, run_programs
from vernacular.evaluation.code.trial import Trials
from vernacular.evaluation.configuration import EvaluateConfiguration, require_anything
from vernacular.evaluation.crew import Crew
from vernacular.evaluation.harness import HarnessModel, TaskRun, quiet, run_task
from vernacular.evaluation.items import item_hashes
from vernacular.evaluation.judge.asking import Asking, Bounds, Judge
from vernacular.evaluation.judge.run import Judging, check_judge, run_judged
from vernacular.evaluation.library.loading import load_library_task
from vernacular.evaluation.records import (
    HELDOUT,
    HELDOUT_SCHEMA,
    RECORDS,
    REQUEST_SCHEMA,
    RUN,
    SECONDS,
    SECONDS_SCHEMA,
    YARDSTICK,
    YARDSTICK_SCHEMA,
    Row,
    write_rows,
)
from vernacular.evaluation.scores import SCORES, TOLERANCE, Score, as_json, rescore, table, warnings
from vernacular.evaluation.similarity import Similarities
from vernacular.evaluation.suites.selection import Selection
from vernacular.evaluation.tasks import LoadedTask, find_tasks, load_task
from vernacular.foundation.errors import InternalError, UserError
from vernacular.foundation.files import sha256_json, write_json, write_text
from vernacular.foundation.machine import describe_machine, package_versions
from vernacular.foundation.progress import progress
from vernacular.models.language_model import LanguageModel

FORMAT = 3
_RESERVED = {HELDOUT, YARDSTICK}

HarnessValues = dict[tuple[str, str, str], float]
"""The harness's value of each task, metric and filter."""


def evaluate(
    configuration: EvaluateConfiguration,
    lm: LanguageModel,
    tasks: Path | None,
    heldout: Path | None,
    folder: Path,
    *,
    instruct: bool | None = None,
    answers: Path | AnswerFile | None = None,
    crew: Crew | None = None,
    data: Path | None = None,
    contamination: Path | None = None,
    selection: Selection | None = None,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Score a model and write the record.

    Args:
        configuration: limits, shots, template, seeds.
        lm: what answers.
        tasks: folder of harness YAML with its data, or one YAML file; None for no tasks.
        heldout: curated artifact whose held-out documents bits per byte are measured on; None for none.
        folder: receives records/, scores.json and scores.md.
        instruct: whether the weights were fine-tuned on conversations; decides `template: auto`.
        answers: what was answered before, and is kept, or a file for it; None keeps answers until the end only.
        crew: the processes that answer together, where there are several.
        data: folder with the data of tasks that have none beside them (`tasks.local_data`).
        contamination: file that says which items the training text held, or the curated artifact it lies in.
        selection: tasks of the library, and what is left out of the suite that they are of.
        judge: who grades the answers of tasks that need it.

    Returns:
        The summary: the scores in short, and warnings.

    Raises:
        UserError: nothing to evaluate, or a task that is broken, empty, or cannot be verified; its name is given.
    """
    require_anything(selection, tasks, heldout)
    template, reason = decide_template(configuration.template, lm, instruct)
    known = {} if contamination is None else read_contamination(contamination)
    facts: dict[str, Any] = {}
    harness_values: HarnessValues = {}
    similarities = Similarities(configuration.bert_score, configuration.bert_score_layer, configuration.bert_score_idf)
    with _remembering(lm, answers, crew) as model:
        if tasks is not None or selection is not None:
            loader = _Loader(configuration, tasks, data, selection)
            running = _Running(configuration, model, template, folder, known, judge, similarities)
            facts, harness_values = _run_tasks(running, loader, contamination)
        documents = _run_heldout(configuration, model, heldout, folder) if heldout is not None else {}
        cached = {"answers": model.num_answers, "cached": model.num_cached}
    run_record = {
        "format": FORMAT,
        "model": dict(lm.identity),
        "template": {"applied": template, "reason": reason},
        "settings": _settings(configuration),
        "versions": package_versions(),
        "program": code_hash(),
        "machine": {**describe_machine(), **_accelerators()},
        "tasks": facts,
        "bert_score": similarities.identity(),
        "judge": None if judge is None else dict(judge.identity),
        "left_out": dict(selection.left_out) if selection is not None else {},
        "heldout": documents,
    }
    write_json(folder / RECORDS / RUN, run_record)
    return {**_finish(folder, run_record, harness_values), **cached}


def decide_template(setting: str, lm: LanguageModel, instruct: bool | None) -> tuple[bool, str]:
    """Whether prompts go through the chat template, and why."""
    has_template = lm.identity.get("template", "none") != "none"
    if setting == "never":
        return False, "template: never"
    if setting == "always":
        if not has_template:
            raise UserError(
                "template: always, but the weights have no chat template",
                where="template",
                fix="set template: never, or add chat_template.jinja to the weights",
            )
        return True, "template: always"
    if not has_template:
        return False, "the weights have no chat template"
    if instruct is None:
        raise UserError(
            "the weights have a chat template, but nothing says whether they were trained to chat",
            where="template: auto",
            fix="set template: always for instruct weights, or template: never for base weights",
        )
    return instruct, "instruct weights" if instruct else "base weights"


@contextmanager
def _remembering(lm: LanguageModel, answers: Path | AnswerFile | None, crew: Crew | None) -> Iterator[RememberingModel]:
    """The model, its answers kept in a file: the caller's, which stays if it has any, or one that goes with the run."""
    if isinstance(answers, AnswerFile):
        yield RememberingModel(lm, answers, crew)
        return
    with tempfile.TemporaryDirectory(prefix="vernacular-answers-") as passing:
        file = AnswerFile(answers or Path(passing) / ANSWERS)
        try:
            yield RememberingModel(lm, file, crew)
        finally:
            file.close()
            if not len(file):
                file.path.unlink()


def _check_same_items(tasks: Sequence[LoadedTask], known: Mapping[str, TaskContamination], where: Path) -> None:
    """Refuse what was found out about other items than the tasks have."""
    for task in tasks:
        if task.name in known and known[task.name].data_hash != hash_of_data(item_hashes(task)):
            raise UserError(
                f"the training text was searched for other items than the task '{task.name}' has",
                where=where,
                fix="search the corpus for the items of these tasks, or evaluate the tasks that it was searched for",
            )


def _accelerators() -> dict[str, str]:
    """Names of the GPUs, where there are any."""
    import torch

    names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return {"accelerators": ", ".join(names)} if names else {}


class _Running(NamedTuple):
    """What tasks are run with."""

    configuration: EvaluateConfiguration
    lm: RememberingModel
    template: bool
    folder: Path
    known: Mapping[str, TaskContamination]
    judge: Judge | None
    similarities: Similarities

    def task(self, task: LoadedTask, model: HarnessModel, trials: Trials | None) -> tuple[LoadedTask, TaskRun]:
        """Run one; the task comes back with the metrics that its record has."""
        configuration, known = self.configuration, self.known.get(task.name)
        if self.judge is not None and task.judge is not None:
            bounds = Bounds(tokens=configuration.judge_tokens, missing_share=configuration.judge_missing)
            judging = Judging(
                asking=Asking(self.judge, self.lm.file, bounds),
                folder=self.folder,
                runs=configuration.judge_runs,
                against=configuration.judge_against,
                limit=configuration.limit,
                seed=configuration.seed,
                standings={} if known is None else known.by_hash(),
            )
            return run_judged(task, self.lm, judging)
        ask = partial(run_task, model, limit=configuration.limit, template=self.template, contamination=known)
        if self.similarities.is_wanted(task):
            run = ask(task)
            return task, run._replace(rows=self.similarities.add(task, run.rows))
        if trials is not None and task.code is not None:
            return task, run_programs(task, ask, Trying(trials, self.lm.file, self.folder, configuration.samples))
        return task, ask(task)


def _run_tasks(running: _Running, loader: _Loader, contamination: Path | None) -> tuple[dict[str, Any], HarnessValues]:
    """Run all tasks and write their requests; facts for the record, and the harness's own values."""
    facts: dict[str, Any] = {}
    values: HarnessValues = {}
    seconds: list[Row] = []
    model = HarnessModel(running.lm, running.configuration.seed)
    with tempfile.TemporaryDirectory(prefix="vernacular-tasks-") as cache, ExitStack() as opened:
        tasks = loader.load(Path(cache))
        if contamination is not None:
            _check_same_items(tasks, running.known, contamination)
        check_allowed(tasks, running.configuration.allow_code_execution)
        check_samples(tasks, running.configuration.samples)
        running.similarities.check(tasks)
        check_judge(tasks, judge=running.judge is not None, template=running.template)
        languages = {task.code.language for task in tasks if task.code is not None}
        trials = opened.enter_context(Trials(languages)) if languages else None
        for loaded in tasks:
            model.seconds.clear()
            model.tokens.clear()
            model.cut.clear()
            task, run = running.task(loaded, model, trials)
            seconds += run.seconds
            write_rows(running.folder / RECORDS / f"{task.name}.parquet", run.rows, REQUEST_SCHEMA)
            facts[task.name] = _facts(task, run)
            values |= {(task.name, *key): value for key, value in run.values.items()}
    write_rows(running.folder / SECONDS, seconds, SECONDS_SCHEMA)
    return facts, values


def _run_heldout(
    configuration: EvaluateConfiguration, lm: LanguageModel, curated: Path, folder: Path
) -> dict[str, Any]:
    """Score held-out text, the model and xz, and write both; documents by language, for the record."""
    texts = bits_per_byte.heldout_texts(curated, configuration.heldout_bytes)
    training = bits_per_byte.training_texts(curated, configuration.yardstick_training_bytes)
    write_rows(folder / RECORDS / f"{HELDOUT}.parquet", bits_per_byte.score_heldout(lm, texts), HELDOUT_SCHEMA)
    yardsticks = bits_per_byte.score_yardsticks(texts, training)
    write_rows(folder / RECORDS / f"{YARDSTICK}.parquet", yardsticks, YARDSTICK_SCHEMA)
    return {language: {"documents": len(documents)} for language, documents in texts.items()}


class _Loader(NamedTuple):
    """What is needed to load the tasks."""

    configuration: EvaluateConfiguration
    source: Path | None
    data: Path | None
    selection: Selection | None

    def load(self, cache: Path) -> list[LoadedTask]:
        """All tasks before the first is run, so that a broken one costs nothing."""
        if self.selection is not None:
            return self._of_library(self.selection)
        assert self.source is not None
        configuration = self.configuration
        found = find_tasks(self.source, configuration.only)
        for name in sorted(_RESERVED & set(found)):
            raise UserError(f"a task cannot be called '{name}'", where=found[name], fix="rename it")
        with quiet():
            return [
                load_task(
                    name,
                    path,
                    num_fewshot=configuration.num_fewshot,
                    seed=configuration.seed,
                    code=configuration.task_code,
                    cache=cache,
                    data=self.data,
                )
                for name, path in found.items()
            ]

    def _of_library(self, selection: Selection) -> list[LoadedTask]:
        with quiet(), progress(doing="reading tasks", total=len(selection.tasks), unit="tasks") as bar:
            loaded = []
            for entry, shots in selection.tasks:
                given = self.configuration.num_fewshot
                num_fewshot = shots if given is None else given
                loaded.append(
                    load_library_task(
                        entry,
                        num_fewshot=num_fewshot,
                        seed=self.configuration.seed,
                        folder=entry.folder or self.data,
                    )
                )
                bar.update()
            return loaded


def _settings(configuration: EvaluateConfiguration) -> dict[str, Any]:
    """Our own settings: a subclass's (the stage's references) stay in its artifact, and `dtype` is the model's."""
    return configuration.model_dump(mode="json", include=set(EvaluateConfiguration.model_fields) - {"dtype"})


def _facts(task: LoadedTask, run: TaskRun) -> dict[str, Any]:
    """What the record must say about a task besides its requests."""
    return {
        "kind": task.kind,
        "language": task.language,
        "stated_chance": task.chance,
        "version": task.version,
        "num_fewshot": task.task.get_config("num_fewshot"),
        "metrics": dict(task.metrics),
        "items": len({row["item"] for row in run.rows}),
        "requests": len(_requests(run.rows)),
        "cut": run.cut,
        "prompts_sha256": sha256_json(_requests(run.rows)),
        "files": dict(task.files),
        "data": dict(task.data),
        "code": None if task.code is None else task.code.model_dump(mode="json"),
    }


def _requests(rows: Sequence[Row]) -> list[list[str | None]]:
    """What was asked, once each, though every filter has rows of its own."""
    first = rows[0]["filter"]
    return [[row["prompt"], row.get("continuation")] for row in rows if row["filter"] == first]


def _finish(folder: Path, run_record: Mapping[str, Any], harness_values: HarnessValues) -> dict[str, Any]:
    """Scores from the records that were just written, held against the harness's own numbers."""
    scores = rescore(folder)
    for score in scores:
        theirs = harness_values.get((score.task, score.metric, score.filter))
        differs = theirs is not None and not math.isclose(score.value, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        if differs and score.subset == "all":
            raise InternalError(
                f"{score.task}: {score.metric} is {score.value} from the record, {theirs} from the harness",
                where=folder / score.record,
            )
    warned = warnings(scores, run_record["tasks"])
    write_json(folder / SCORES, {**run_record, "scores": as_json(scores), "warnings": warned})
    report = "\n".join([table(scores), *[f"\nWarning: {warning}" for warning in warned]])
    write_text(folder / "scores.md", report + "\n")
    print(report, file=sys.stderr)
    return {"template": run_record["template"], "scores": [_short(score) for score in scores], "warnings": warned}


def _short(score: Score) -> dict[str, Any]:
    keys = ("task", "language", "metric", "value", "stderr", "low", "high", "chance", "n", "yardsticks", "subset")
    return {key: getattr(score, key) for key in keys}
