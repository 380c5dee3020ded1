"""The same answers, item by item, as lm-evaluation-harness's own Hugging Face path gives for the same weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tiny import make_tokenizer, make_weights

from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.harness import quiet
from vernacular.evaluation.records import REQUEST_SCHEMA, read_rows
from vernacular.evaluation.scores import read_scores

ITEMS = [
    {"question": "Gdzie kupię świeży chleb?", "choices": ["na targu", "w piekarni", "u Zofii"], "label": 1},
    {"question": "कुआँ कहाँ है?", "choices": ["गाँव के पास", "पेड़ पर", "नाव में"], "label": 0},
    {"question": "When does the ferry leave?", "choices": ["never", "at the tide", "on Sunday, early"], "label": 1},
    {"question": "ஆறு எப்போது நிரம்பும்?", "choices": ["மழை பெய்தால்", "காலையில்", "கரையில்"], "label": 0},
    {"question": "متى يفتح الدكان؟", "choices": ["في الصباح", "في الليل", "غدا"], "label": 0},
]
COMMON: Mapping[str, Any] = {"dataset_path": "json", "test_split": "test", "metadata": {"version": 1}}
TASKS: Sequence[Mapping[str, Any]] = [
    {
        "task": "choice",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}\nOdpowiedź:",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    {
        "task": "shots",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "fewshot_split": "test",
        "num_fewshot": 1,
        "metric_list": [{"metric": "acc"}, {"metric": "acc_bytes"}],
    },
    {
        "task": "answer",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[label]}}",
        "generation_kwargs": {"until": ["a", "क"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}, {"metric": "chrf"}],
    },
    {
        "task": "text",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question * 12}}",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "word_perplexity"}],
    },
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    return make_weights(folder / "model", make_tokenizer(folder / "tokenizer"))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in ITEMS)
    (folder / "items.jsonl").write_text(lines, encoding="utf-8")
    for task in TASKS:
        config = {**COMMON, **task, "dataset_kwargs": {"data_files": {"test": "items.jsonl"}}}
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return folder


def harness_samples(weights: Path, tasks: Path, template: bool, cache: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(task, results of its samples and metrics) from the harness's own model class and loader."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with quiet():
        for task in TASKS:
            rolling = task["output_type"] == "loglikelihood_rolling"
            if template and rolling:
                continue
            # For whole texts the harness puts a begin token first itself; with another from the tokenizer it would
            # add the probability of a begin token after a begin token to every text's.
            model = HFLM(
                pretrained=str(weights), dtype="float32", device="cpu", batch_size=2, add_bos_token=not rolling
            )
            data = {"data_files": {"test": str(tasks / "items.jsonl")}, "cache_dir": str(cache)}
            found = simple_evaluate(
                model=model,
                tasks=[{**COMMON, **task, "dataset_kwargs": data}],
                apply_chat_template=template,
                fewshot_random_seed=0,
                task_manager=TaskManager(include_defaults=False),
                bootstrap_iters=100,
            )
            assert found is not None
            name = task["task"]
            samples = {sample["doc_id"]: sample for sample in found["samples"][name]}
            yield name, {"samples": samples, "results": found["results"][name]}


@pytest.mark.parametrize("template", [False, True], ids=["plain", "template"])
def test_same_answers_as_the_harness_itself(weights: Path, tasks: Path, tmp_path: Path, template: bool) -> None:
    from vernacular.inference.model import load

    settings = EvaluateConfiguration(template="always" if template else "never")
    evaluate(settings, load(weights), tasks, None, tmp_path / "ours")
    scores = {(score["task"], score["metric"]): score for score in read_scores(tmp_path / "ours")["scores"]}
    compared = 0
    for name, theirs in harness_samples(weights, tasks, template, tmp_path / "cache"):
        rows = read_rows(tmp_path / f"ours/records/{name}.parquet", REQUEST_SCHEMA)
        for row in rows:
            sample = theirs["samples"][row["item"]]
            arguments, (response,) = sample["arguments"][row["request"]], sample["resps"][row["request"]]
            assert row["prompt"] == arguments[0]
            if row["response"] is not None:
                assert row["response"] == response
            elif isinstance(response, tuple):
                assert row["continuation"] == arguments[1]
                assert row["log_probability"] == pytest.approx(response[0], abs=1e-3)
                assert row["is_greedy"] == response[1]
            else:
                assert row["log_probability"] == pytest.approx(response, abs=1e-3)
            compared += 1
        for metric in (entry["metric"] for task in TASKS if task["task"] == name for entry in task["metric_list"]):
            score = scores[name, metric]
            assert score["value"] == pytest.approx(theirs["results"][f"{metric},none"], rel=1e-4)
            stderr = theirs["results"][f"{metric}_stderr,none"]
            if score["chance"] is not None:  # Shares have a closed form; the rest is a bootstrap of its own draws.
                assert math.isclose(score["stderr"], stderr, rel_tol=1e-9)
    assert compared == len(ITEMS) * (3 + 3 + 1 + (not template))
