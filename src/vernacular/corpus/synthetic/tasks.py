"""The demo's tasks as lm-evaluation-harness YAML, each with its items in a JSONL file beside it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import yaml

from vernacular.corpus.synthetic.configuration import SyntheticConfiguration
from vernacular.corpus.synthetic.held_out import HeldOut
from vernacular.corpus.synthetic.items import (
    NUM_CHOICES,
    Item,
    currency_items,
    date_items,
    digit_items,
    number_items,
)
from vernacular.foundation.files import write_text

TASK_VERSION = 1.0
QUESTIONS_FILE = "questions.jsonl"


def tasks(configuration: SyntheticConfiguration, held_out: HeldOut) -> dict[str, tuple[str, list[Item]]]:
    """Name of each task, its language, and its items."""
    found: dict[str, tuple[str, list[Item]]] = {}
    for language in configuration.languages:
        random = Random(f"{configuration.seed}:tasks:{language}")
        found[f"numbers_{language}"] = language, number_items(language, held_out, random)
        found[f"digits_{language}"] = language, digit_items(language, held_out)
        found[f"dates_{language}"] = language, date_items(language, held_out, random)
        found[f"currencies_{language}"] = language, currency_items(language, held_out, random)
    return found


def write_tasks(folder: Path, configuration: SyntheticConfiguration, held_out: HeldOut) -> list[str]:
    """Write NAME.yaml and NAME.jsonl for every task, and `questions.jsonl`; returns the names."""
    written = tasks(configuration, held_out)
    for name, (language, items) in written.items():
        write_text(folder / f"{name}.jsonl", _lines([_row(item) for item in items]))
        task = yaml.safe_dump(_task(name, language, items), allow_unicode=True, sort_keys=False)
        write_text(folder / f"{name}.yaml", task)
    write_text(folder / QUESTIONS_FILE, _lines(demo_questions(configuration, held_out)))
    return list(written)


def demo_questions(configuration: SyntheticConfiguration, held_out: HeldOut) -> list[dict[str, str]]:
    """One held-out question per language with its answer, for the end of the demo."""
    found = []
    for position, language in enumerate(configuration.languages):
        item = digit_items(language, held_out)[position % configuration.items]
        found.append({"language": language, "question": item.question, "answer": item.answer})
    return found


def _row(item: Item) -> dict[str, Any]:
    if not item.choices:
        return {"question": item.question, "answer": item.answer}
    return {"question": item.question, "choices": list(item.choices), "target": item.choices.index(item.answer)}


def _lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _task(name: str, language: str, items: list[Item]) -> dict[str, Any]:
    chosen = bool(items[0].choices)
    task: dict[str, Any] = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice" if chosen else "generate_until",
        "doc_to_text": "{{question}}",
        # The chat template ends a prompt where the answer begins, so nothing stands between them.
        "target_delimiter": "",
    }
    if chosen:
        task["doc_to_choice"] = "{{choices}}"
        task["doc_to_target"] = "target"
        metrics = ["acc", "acc_norm"]
    else:
        task["doc_to_target"] = "{{answer}}"
        task["generation_kwargs"] = {"until": ["\n"], "do_sample": False, "max_gen_toks": 24}
        metrics = ["exact_match"]
    task["metric_list"] = [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in metrics]
    chance = 1 / NUM_CHOICES if chosen else 0.0
    task["metadata"] = {"version": TASK_VERSION, "language": language, "chance": chance}
    return task
