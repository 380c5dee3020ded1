"""A task of the library, ready to run: its YAML, the harness's where it has one of its own, and its set."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
from lm_eval.tasks._yaml_loader import load_yaml

from vernacular.evaluation.library.benchmark import LibraryTask
from vernacular.evaluation.library.placing import Placed, place
from vernacular.evaluation.tasks import LoadedTask, build_task, task_errors
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_file, sha256_json

UPSTREAM = "0.4.13"
"""The lm-evaluation-harness whose tasks the library's `upstream` names."""

_NOT_OURS = (
    "tag",
    "task_alias",
    "group",
    "process_results",
    "metadata",
    "dataset_path",
    "dataset_name",
    "custom_dataset",
)
_HARNESS_ONLY = {"multiple_choice": "acc", "generate_until": "exact_match"}
"""A metric that the harness is given where the task's are all ours; no score is made of it."""


def load_library_task(entry: LibraryTask, *, num_fewshot: int | None, seed: int, folder: Path | None) -> LoadedTask:
    """Read a task of the library and its data.

    Args:
        entry: the task.
        num_fewshot: examples before each question; None = as the task says.
        seed: seed of the choice of examples.
        folder: the folder of --data; None asks the Hub.
    """
    path = Path(f"{entry.file}: {entry.name}")
    config, files = _config(entry, path)
    placed = place(entry, folder)
    config = _with_data(entry, config, placed, path)
    random.seed(seed)  # Upstream's GPQA shuffles its choices with the one generator of all.
    return build_task(
        entry.name,
        path,
        config,
        files={**files, **placed.files},
        num_fewshot=num_fewshot,
        seed=seed,
        item_facts=entry.task.facts,
        data={"set": entry.data.place or entry.data.origin, "note": placed.note, "stands_in": placed.stands_in},
    )


def _config(entry: LibraryTask, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The harness's configuration of a task, and the hashes of what it was made of."""
    task = entry.task
    config: dict[str, Any] = {}
    files = {entry.file: sha256_json(task.model_dump(mode="json"))}
    if task.upstream is not None:
        source = _upstream(task.upstream)
        with task_errors(entry.name, source):
            config = load_yaml(source, resolve_func=True)
        files[f"lm_eval {UPSTREAM}: {task.upstream}"] = sha256_file(source)
    config = {key: value for key, value in config.items() if key not in _NOT_OURS} | task.config
    config["task"] = entry.name
    kind = config.get("output_type", "generate_until")
    if not config.get("metric_list"):
        if kind not in _HARNESS_ONLY or not (task.metrics or task.judge):
            raise UserError("the task has no metric", where=path, fix="give it a metric_list or metrics")
        config["metric_list"] = [{"metric": _HARNESS_ONLY[kind]}]
        config["unscored"] = True
    config["metadata"] = {
        "version": f"lm_eval {UPSTREAM}" if task.upstream and task.version == "1" else task.version,
        "language": task.language,
        "chance": task.chance,
        "metrics": list(task.metrics),
        "code": None if task.code is None else task.code.model_dump(mode="json"),
        "judge": None if task.judge is None else task.judge.model_dump(mode="json"),
    }
    return config, files


def _upstream(name: str) -> Path:
    installed = version("lm_eval")
    if installed != UPSTREAM:
        raise UserError(
            f"the library's tasks are those of lm-evaluation-harness {UPSTREAM}; {installed} is installed",
            where=name,
            fix=f"pip install lm_eval=={UPSTREAM}, or name a folder of tasks with --tasks",
        )
    return Path(lm_eval.tasks.__file__).parent / name


def _with_data(entry: LibraryTask, config: Mapping[str, Any], placed: Placed, path: Path) -> dict[str, Any]:
    """The configuration with its set in memory; splits that the set does not have are left out of it."""
    changed = dict(config)
    for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if changed.get(key) is not None and changed[key] not in placed.splits:
            changed[key] = None
    if changed.get("test_split") is None and changed.get("validation_split") is None:
        wanted = config.get("test_split") or config.get("validation_split")
        raise UserError(
            f"the set of '{entry.name}' has no split '{wanted}', only {', '.join(placed.splits)}",
            where=path,
            fix=f"add the file {wanted}.jsonl to it",
        )
    wanted_splits = {changed.get(key) for key in ("training_split", "validation_split", "test_split", "fewshot_split")}
    with task_errors(entry.name, path):
        made = {
            name: datasets.Dataset.from_list(records)
            for name, records in placed.splits.items()
            if name in wanted_splits
        }
    changed["custom_dataset"] = _giving(made)
    changed["dataset_kwargs"] = {}
    return changed


def _giving(made: Mapping[str, datasets.Dataset]) -> Callable[..., Mapping[str, datasets.Dataset]]:
    """What the harness calls for the set, with the task's metadata, of which the set takes nothing."""

    def give(**_: object) -> Mapping[str, datasets.Dataset]:
        return made

    return give
