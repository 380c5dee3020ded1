"""A small release, made as a recipe makes one: real tokenizer, real (random) weights, real evaluation."""

from __future__ import annotations

import datetime
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tiny import SENTENCES, make_tokenizer, make_weights

from vernacular.foundation.artifact import write_artifact
from vernacular.foundation.files import write_json, write_text
from vernacular.publishing.configuration import PublishConfiguration

WORDS = {
    "title": "Pebble 0.1 | *tiny* <b>",
    "licence": "apache-2.0",
    "authors": ("Zofia Łęcka", "आरती नायर"),
    "contact": "https://example.org/pebble",
    "description": "A model made by a test. It knows **nothing**.",
    "intended_use": "Testing that a card is made as it should be.",
    "limitations": "- It was never trained.\n- Its answers are noise.",
}
OPTIMISER = {
    "name": "muon",
    "learning_rate": 0.002,
    "warmup_steps": 20,
    "final_learning_rate": 0.0002,
    "schedule": "cosine",
    "beta1": 0.9,
    "beta2": 0.95,
    "epsilon": 1e-8,
    "weight_decay": 0.1,
    "clip": 1.0,
}


@pytest.fixture
def words() -> dict[str, Any]:
    return dict(WORDS)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the artifacts of a run: corpus, tokenizer, tokens, base, instruct, scores. Not to be changed."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def released(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of it. Not to be changed."""
    from vernacular.publishing.card import publish

    folder = tmp_path_factory.mktemp("release")
    publish(PublishConfiguration(**WORDS), made / "instruct", made / "scores", ancestry_of(made), folder)
    return folder


@pytest.fixture
def release(released: Path, tmp_path: Path) -> Path:
    """A copy of the release, to be tampered with."""
    shutil.copytree(released, tmp_path / "release")
    return tmp_path / "release"


@pytest.fixture
def ancestry(made: Path) -> list[tuple[str, Path]]:
    return ancestry_of(made)


@pytest.fixture
def artifact() -> Callable[..., None]:
    return finish


def ancestry_of(run: Path) -> list[tuple[str, Path]]:
    return [(name, run / name) for name in ("corpus", "tokenizer", "tokens", "base", "instruct", "scores")]


def finish(folder: Path, do: str, configuration: dict[str, Any], summary: dict[str, Any]) -> None:
    write_artifact(
        folder,
        stage=folder.name,
        do=do,
        fingerprint="0" * 64,
        configuration=configuration,
        inputs={},
        summary=summary,
        started=datetime.datetime(2026, 5, 4, 12, tzinfo=datetime.UTC),
        seconds=12.5,
    )


def make_run(run: Path) -> Path:
    from vernacular.evaluation.configuration import EvaluateConfiguration
    from vernacular.evaluation.evaluation import evaluate
    from vernacular.foundation.files import read_json
    from vernacular.inference.model import load
    from vernacular.tokens.configuration import TokenizeConfiguration
    from vernacular.tokens.tokenization import tokenize_documents

    tokenizer = make_tokenizer(run / "tokenizer")
    (run / "tokenizer-documents").rename(run / "corpus")
    _write_report(run / "corpus")
    finish(run / "corpus", "curate", {"sources": [{"path": "/srv/secret/stories"}]}, {"documents": 9})
    finish(tokenizer, "train-tokenizer", {"vocab_size": 420}, read_json(tokenizer / "report.json"))
    summary = tokenize_documents(TokenizeConfiguration(), run / "corpus", tokenizer, run / "tokens")
    finish(run / "tokens", "tokenize", {}, summary)
    for name, do, seed in (("base", "pretrain", 0), ("instruct", "sft", 1)):
        make_weights(run / name, tokenizer, seed=seed)
        _write_metrics(run / name, steps=300 if do == "pretrain" else 60, first=6.0 if do == "pretrain" else 2.6)
        finish(run / name, do, _training_configuration(), _training_summary(do))
    write_tasks(run / "tasks")
    summary = evaluate(
        EvaluateConfiguration(resamples=200),
        load(run / "instruct"),
        run / "tasks",
        run / "corpus",
        run / "scores",
        instruct=True,
    )
    finish(run / "scores", "evaluate", {}, summary)
    return run


def _write_report(corpus: Path) -> None:
    reasons = {"near_duplicate": {"documents": 2, "bytes": 16}, "too_short": {"documents": 1, "bytes": 9}}
    report = {
        "in": {"documents": 23, "bytes": 1727},
        "kept": {"documents": 20, "bytes": 1702},
        "removed": {"documents": 3, "bytes": 25, "reasons": reasons},
        "quarantined": {"documents": 0, "bytes": 0},
        "labels": {"noise_removed": 0.951, "clean_kept": 1.0, "precision": 0.987},
        "not_read": ["/srv/secret/stories/cover.png"],
    }
    write_json(corpus / "report.json", report)


def _write_metrics(folder: Path, steps: int, first: float) -> None:
    lines = []
    for step in range(10, steps + 1, 10):
        loss = 1.9 + (first - 1.9) * math.exp(-step / 80) + 0.05 * math.sin(step)
        line: dict[str, Any] = {
            "step": step,
            "tokens": step * 4096,
            "loss": loss,
            "perplexity": math.exp(loss),
            "accuracy": 1 / (1 + loss),
            "learning_rate": 0.001,
            "gradient_norm": 0.7,
            "tokens_per_second": 5000.0,
            "mfu": None,
            "seconds": step / 2,
        }
        if step % 100 == 0 or step == steps:
            line |= {"heldout_loss": loss + 0.1, "heldout_accuracy": 1 / (1.1 + loss)}
        lines.append(json.dumps(line) + "\n")
    write_text(folder / "logs" / "metrics.jsonl", "".join(lines))


def _training_configuration() -> dict[str, Any]:
    return {
        "steps": 300,
        "sequence_length": 256,
        "batch_tokens": 4096,
        "micro_batch_tokens": None,
        "precision": "float32",
        "seed": 0,
        "optimiser": OPTIMISER,
    }


def _training_summary(do: str) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "parameters": 100_000,
        "steps": 300,
        "tokens": 1_228_800,
        "epochs": 1.25,
        "final_loss": 1.9321,
        "heldout_loss": 2.0417,
        "seconds": 83.4,
        "tokens_per_second": 14733.8,
        "mfu": 0.2183,
        "mfu_formula": "6N FLOPs per token over the measured peak",
    }
    if do == "sft":
        counts = {"documents": 40, "tokens": 2100, "loss_tokens": 700, "languages": {}}
        summary["data"] = {"splits": {"train": counts}}
    return summary


def write_tasks(folder: Path) -> None:
    """A choice and an answer task in each of three languages, from the tiny model's sentences."""
    for language in ("hi", "pl", "en"):
        texts = list(SENTENCES[language]) * 4
        items = [
            {"question": text[: len(text) // 2], "choices": [text[len(text) // 2 :], "xyz", "123"], "label": 0}
            for text in texts
        ]
        for kind in ("choice", "answer"):
            name = f"endings_{kind}_{language}"
            write_text(folder / f"{name}.jsonl", "".join(json.dumps(item) + "\n" for item in items))
            task: dict[str, Any] = {
                "task": name,
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
                "test_split": "test",
                "doc_to_text": "{{question}}",
                "target_delimiter": "",
                "metadata": {"version": 1.0, "language": language},
            }
            if kind == "choice":
                task |= {
                    "output_type": "multiple_choice",
                    "doc_to_choice": "choices",
                    "doc_to_target": "label",
                    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
                }
            else:
                task |= {
                    "output_type": "generate_until",
                    "doc_to_target": "{{choices[0]}}",
                    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
                    "metric_list": [{"metric": "exact_match"}],
                }
            write_text(folder / f"{name}.yaml", yaml.safe_dump(task, allow_unicode=True))
    write_json(folder / "note.json", {})
