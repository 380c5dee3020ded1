"""Tasks in the harness's own form, with their items beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def task(name: str, **config: Any) -> dict[str, Any]:
    """A task over the items beside it."""
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "metadata": {"version": 1},
        **config,
    }


def choice_task(name: str, **changes: Any) -> dict[str, Any]:
    """A multiple-choice task over items with `question`, `choices` and `label`, its YAML changed."""
    choices = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}],
    }
    return task(name, **choices | changes)


def write_task(folder: Path, config: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
    """The task's YAML and its items, as they lie in a folder of tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    name = config["task"]
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(dict(config), allow_unicode=True), encoding="utf-8")
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
