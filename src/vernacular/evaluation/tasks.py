"""Tasks: lm-evaluation-harness YAML with its data beside it. What cannot be run or verified is refused here."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import datasets
import jinja2
import yaml
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from vernacular.evaluation.code.form import CodeForm
from vernacular.evaluation.judge.form import JudgeForm
from vernacular.evaluation.metrics.registry import METRICS, OWN, has_metric
from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import UserError, unknown_name
from vernacular.foundation.files import json_objects, sha256_file

_LOCAL_FORMATS = ("json", "csv", "parquet", "text", "arrow")
_NAME = re.compile(r"[\w.+-]+")
_CODE_KEYS = ("class", "custom_dataset")
_HARNESS_KEYS = {"metric", "aggregation", "higher_is_better", "hf_evaluate"}

TASK_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    FileNotFoundError,
    ImportError,
    LookupError,
    SyntaxError,
    TypeError,
    ValueError,
    datasets.exceptions.DatasetsError,
    jinja2.TemplateError,
    yaml.YAMLError,
)
"""What the harness raises for a task that is wrong: it has no errors of its own."""


@dataclass(frozen=True)
class LoadedTask:
    """A task ready to run.

    Attributes:
        name: its name.
        task: the harness's object.
        path: its YAML file.
        kind: the harness's `output_type`.
        language: as its metadata states it, or None.
        chance: share of right answers by guessing, as its metadata states it, or None.
        version: of the task, as its metadata states it.
        metrics: metric names and their options.
        files: SHA-256 of its YAML and data files, by name.
        item_facts: fields of an item that the metrics need in its record.
        data: where a task of the library has its set from, and in what it is not the set itself.
        code: how its answers are run, where they are programs.
        judge: where a judge finds what it grades, where one does.
        config: the harness's configuration of it.
    """

    name: str
    task: ConfigurableTask
    path: Path
    kind: str
    language: str | None
    chance: float | None
    version: str
    metrics: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, str]
    item_facts: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    code: CodeForm | None = None
    judge: JudgeForm | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def task_errors(name: str, path: Path) -> Iterator[None]:
    """Turn the harness's errors about a task into a `UserError` that names it."""
    try:
        yield
    except TASK_ERRORS as error:
        text = str(error) or type(error).__name__
        raise UserError(
            f"the task '{name}' fails: {text}", where=path, fix="correct the task's YAML or data"
        ) from error


def find_tasks(source: Path, only: tuple[str, ...]) -> dict[str, Path]:
    """YAML file of each task below a folder (or of one file), by name, in the order of the names."""
    if not source.exists():
        raise UserError("there are no tasks here: the path does not exist", where=source, fix="check the path")
    found: dict[str, Path] = {}
    for path in [source] if source.is_file() else sorted(source.rglob("*.yaml")):
        name = _name_of(path)
        if name is None:
            continue
        if name in found:
            raise UserError(f"two tasks are called '{name}': {found[name]} and this one", where=path, fix="rename one")
        found[name] = path
    if not found:
        raise UserError("no task here: no YAML file with the key `task`", where=source, fix="check the path")
    return only_tasks(found, only)


def only_tasks(found: Mapping[str, Path], only: tuple[str, ...]) -> dict[str, Path]:
    """The tasks whose names fit a pattern, in the order of the names; all where there are no patterns."""
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in found):
            raise unknown_name("task", pattern, found, where="only")
    return {
        name: found[name] for name in sorted(found) if not only or any(fnmatchcase(name, pattern) for pattern in only)
    }


def _name_of(path: Path) -> str | None:
    """The task's name; None for a file that other tasks include."""
    with task_errors(path.stem, path):
        config = load_yaml(path, resolve_func=False)
    if "group" in config:
        raise UserError("groups of tasks are not supported", where=path, fix="keep the tasks, leave the group out")
    name = config.get("task")
    if name is None:
        return None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(f"'{name}' cannot be a task's name", where=path, fix="use letters, digits and _ . + -")
    return name


def load_task(
    name: str, path: Path, *, num_fewshot: int | None, seed: int, code: bool, cache: Path, data: Path | None = None
) -> LoadedTask:
    """Read a task's YAML and data.

    Args:
        name: the task's name.
        path: its YAML file.
        num_fewshot: examples before each question; None = as the task says. A task that fixes 0 keeps it.
        seed: seed of the choice of examples.
        code: whether `!function` and `class` may run the task's own Python.
        cache: folder for the data in the harness's form, to be removed afterwards.
        data: folder with the data of tasks that have none beside them.
    """
    files = {path.name: sha256_file(path)}
    if not code:
        _refuse_code(path)
    with task_errors(name, path):
        config = load_yaml(path, resolve_func=code)
    if "class" not in config:
        if config.get("dataset_path") not in _LOCAL_FORMATS:
            config |= folder_data(config, path, data)
        kwargs, data_files = _local_data(config, path)
        config["dataset_kwargs"] = {**kwargs, "cache_dir": str(cache / name), "keep_in_memory": True}
        files |= {file.name: sha256_file(file) for file in data_files}
    facts = tuple((config.get("metadata") or {}).get("facts") or ())
    return build_task(name, path, config, files=files, num_fewshot=num_fewshot, seed=seed, item_facts=facts)


def build_task(
    name: str,
    path: Path,
    config: dict[str, Any],
    *,
    files: Mapping[str, str],
    num_fewshot: int | None,
    seed: int,
    item_facts: tuple[str, ...] = (),
    data: Mapping[str, Any] | None = None,
) -> LoadedTask:
    """A task of the harness's configuration, whose data is found already.

    Args:
        name: the task's name.
        path: what errors name.
        config: the configuration. `unscored: true` says that its metric_list is only what the harness needs.
        files: SHA-256 of what it was made of, by name.
        num_fewshot: examples before each question; None = as the task says. A task that fixes 0 keeps it.
        seed: seed of the choice of examples.
        item_facts: fields of an item that the metrics need in its record.
        data: where the set is from.
    """
    metadata = config.get("metadata") or {}
    given = dict(config)
    kind = config.get("output_type", "generate_until")
    judge = metadata.get("judge")
    if (metadata.get("code") is not None or judge is not None) and not config.get("metric_list"):
        config |= {"metric_list": [{"metric": "exact_match"}], "unscored": True}
    metrics = _own_metrics(config, kind, path) if config.pop("unscored", False) else _metrics(config, kind, path)
    if config.get("repeats", 1) != 1:
        raise UserError("`repeats` other than 1 is not supported", where=path, fix="remove it")
    with task_errors(name, path):
        task = TaskManager(include_defaults=False).load([config])["tasks"][name]
        if task.get_config("num_fewshot") is None:
            task.set_config("num_fewshot", num_fewshot or 0)
        elif num_fewshot is not None and task.get_config("num_fewshot") != 0:
            task.set_config("num_fewshot", num_fewshot)
        _check_examples(task, config, path)
        task.set_fewshot_seed(seed)
        if len(task.eval_docs) == 0:
            raise UserError(f"the task '{name}' has no items", where=path, fix="give it a test split with items")
    return LoadedTask(
        name=name,
        task=task,
        path=path,
        kind=kind,
        language=metadata.get("language"),
        chance=_chance(metadata.get("chance"), path),
        version=str(metadata.get("version", "unversioned")),
        metrics=metrics,
        files=files,
        item_facts=item_facts,
        data=data or {},
        code=_code(metadata.get("code"), path),
        judge=None if judge is None else validate(JudgeForm, judge, at=(str(path), "metadata", "judge")),
        config=given,
    )


def _code(value: Any, path: Path) -> CodeForm | None:
    """`metadata.code`: how answers that are programs are run."""
    return None if value is None else validate(CodeForm, value, at=(str(path), "metadata", "code"))


def _check_examples(task: ConfigurableTask, config: Mapping[str, Any], path: Path) -> None:
    """Refuse examples from the scored split, unless the task says so itself (`fewshot_split`, `fewshot_config`)."""
    stated = config.get("fewshot_split") or config.get("fewshot_config")
    others = task.has_training_docs() or (task.has_validation_docs() and task.has_test_docs())
    if task.get_config("num_fewshot") and not stated and not others:
        raise UserError(
            "the examples before each question would come from the questions that are scored",
            where=path,
            fix="give the task a training_split, or state fewshot_split if that is meant",
        )


def folder_data(config: Mapping[str, Any], path: Path, data: Path | None) -> dict[str, Any]:
    """The task's data from a folder: `DATA/OWNER/SET/CONFIG/SPLIT.jsonl` (or .parquet, .csv).

    OWNER/SET is the task's `dataset_path`, CONFIG its `dataset_name` (left out where it has none).
    """
    wanted = "/".join(str(part) for part in (config.get("dataset_path"), config.get("dataset_name")) if part)
    folder = data / wanted if data is not None else None
    if folder is None or not folder.is_dir() or not folder.resolve().is_relative_to(data.resolve() if data else path):
        raise UserError(
            f"the task's data '{wanted}' is not a file beside it"
            + (f", and there is no folder {folder}" if folder else ""),
            where=path,
            fix=f"put it into a folder as {wanted}/SPLIT.jsonl and name that folder with --data, or beside the YAML "
            "with dataset_path: json and dataset_kwargs: {data_files: {test: NAME.jsonl}}",
        )
    for suffix, kind in ((".jsonl", "json"), (".json", "json"), (".parquet", "parquet"), (".csv", "csv")):
        files = sorted(folder.glob(f"*{suffix}"))
        if files:
            splits = {file.stem: str(file.resolve()) for file in files}
            return {"dataset_path": kind, "dataset_name": None, "dataset_kwargs": {"data_files": splits}}
    raise UserError("the folder holds no data", where=folder, fix="put SPLIT.jsonl, .parquet or .csv files into it")


def _chance(value: Any, path: Path) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"metadata.chance is {value!r}, not a share between 0 and 1", where=path)
    return float(value)


def _metrics(config: Mapping[str, Any], kind: str, path: Path) -> dict[str, dict[str, Any]]:
    """Metrics and their options; one that cannot be recomputed from the records is refused."""
    if kind not in METRICS:
        raise unknown_name("output_type", str(kind), METRICS, where=path)
    listed = config.get("metric_list")
    if not listed:
        raise UserError("the task has no metric_list", where=path, fix=f"list some of: {', '.join(METRICS[kind])}")
    if config.get("process_results") is not None:
        raise UserError(
            "the task computes its results with its own code, which no record can prove",
            where=path,
            fix=f"remove process_results and use the metrics {', '.join(METRICS[kind])}",
        )
    metrics: dict[str, dict[str, Any]] = {}
    for entry in listed:
        name = str(entry.get("metric"))
        if name not in METRICS[kind]:
            raise unknown_name(f"metric for {kind}", name, METRICS[kind], where=path)
        expected = METRICS[kind][name].aggregation
        if entry.get("aggregation", expected) != expected or entry.get("hf_evaluate"):
            raise UserError(f"the metric '{name}' is aggregated by '{expected}' here", where=path, fix="leave it out")
        metrics[name] = {key: value for key, value in entry.items() if key not in _HARNESS_KEYS}
    return {**metrics, **_own_metrics(config, kind, path)}


def _own_metrics(config: Mapping[str, Any], kind: str, path: Path) -> dict[str, dict[str, Any]]:
    """Metrics under `metadata.metrics`, which the harness does not have: names, or mappings with options."""
    metrics: dict[str, dict[str, Any]] = {}
    for entry in (config.get("metadata") or {}).get("metrics") or []:
        options = {"metric": entry} if isinstance(entry, str) else dict(entry)
        name = str(options.pop("metric", None))
        if not has_metric(kind, name) or name in METRICS[kind]:
            raise unknown_name(f"metric of metadata.metrics for {kind}", name, OWN.get(kind, {}), where=path)
        if name == "f1" and "positive" not in options:
            raise UserError("the metric f1 needs its positive answer", where=path, fix="add `positive: ANSWER` to it")
        metrics[name] = options
    return metrics


def _local_data(config: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], list[Path]]:
    """The task's `dataset_kwargs` with absolute paths, and its data files."""
    kwargs = dict(config.get("dataset_kwargs") or {})
    given = kwargs.get("data_files")
    if config.get("dataset_path") not in _LOCAL_FORMATS or given is None:
        raise UserError(
            f"the task's data is not a file beside it (dataset_path: {config.get('dataset_path')})",
            where=path,
            fix="set dataset_path: json and dataset_kwargs: {data_files: {test: NAME.jsonl}}",
        )
    found: list[Path] = []

    def resolve(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {split: resolve(inner) for split, inner in value.items()}
        if isinstance(value, list):
            return [resolve(inner) for inner in value]
        file = (path.parent / str(value)).resolve()
        if not file.is_file():
            raise UserError(f"the task's data file '{value}' is missing", where=path, fix="put it beside the YAML")
        if file.suffix == ".jsonl":
            check_lines(file)
        found.append(file)
        return str(file)

    kwargs["data_files"] = resolve(given)
    return kwargs, found


def check_lines(file: Path) -> None:
    """Refuse a JSONL file with a broken line, naming the line; or one without any."""
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8") as lines:
        count = sum(1 for _ in json_objects(lines, file))
    if count == 0:
        raise UserError("the task has no items: its data file is empty", where=file, fix="give it items")


def _refuse_code(path: Path) -> None:
    """Refuse YAML (and what it includes) that would import Python when it is read."""
    with task_errors(path.stem, path):
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    if root is None:
        return
    for node in _nodes(root):
        if node.tag == "!function" or (isinstance(node, yaml.ScalarNode) and node.value in _CODE_KEYS):
            raise UserError(
                "the task brings its own Python code",
                where=f"{path}:{node.start_mark.line + 1}",
                fix="read that code; if you trust it, set task_code: true",
            )
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if key.value == "include":
            for name in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                _refuse_code(path.parent / name.value)


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (*_nodes(key), *_nodes(value))
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _nodes(child)
