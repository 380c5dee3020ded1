"""The benchmark of training on a GPU, at toy size on whatever is here: it runs, and says what it did not measure."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training_gpu.py"


def run(*words: str) -> list[dict[str, Any]]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False, timeout=200, env=environment
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_toy_run_trains_both_models_and_claims_no_figure_of_a_gpu() -> None:
    lines = {line["what"]: line for line in run("--toy")}
    for name in ("Bielik 7B, bfloat16", "Granite 1B-A400M, bfloat16"):
        line = lines[name]
        assert line["measured"] is False, "a toy's figures are no measurement"
        assert line["tokens_per_second"] > 0 and line["last_loss"] < line["first_loss"]
        parts = {key: value for key, value in line["bytes"].items() if key != "all"}
        assert sum(parts.values()) == line["bytes"]["all"]
        # bfloat16 weights and averages; float32 weights and averages.
        share = 2 if name.startswith("Bielik") else 4
        assert parts["weights"] == share * line["parameters"]
        assert parts["gradients"] == 4 * line["parameters"]
        assert parts["optimiser"] >= 2 * share * line["parameters"]
    busiest = lines["Granite 1B-A400M, bfloat16"]["busiest_experts_share"]
    assert 1 / 4 <= busiest <= 1, "four experts"
    assert {lines[name]["why"] for name in lines if name.endswith("float8")} == {"this machine has no GPU"}
    assert "speed, MFU and memory of a GPU" in lines["not measured"]["why"]


class FullWorker:
    """Stands for a process on a GPU that holds so many rows."""

    holds: ClassVar[int]
    asked: ClassVar[list[int]]

    def __init__(self, _python: str, _script: str, job: str, *, until: float) -> None:
        settings = json.loads(job)["settings"]
        self.rows = settings["micro_batch_tokens"] // settings["sequence_length"]

    def ask(self, _request: dict[str, int]) -> dict[str, Any]:
        self.asked.append(self.rows)
        return {"tokens_per_second": 9.0} if self.rows <= self.holds else {"out_of_memory": "CUDA out of memory."}

    def __enter__(self) -> FullWorker:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("training_gpu")


@pytest.mark.parametrize(("holds", "asked"), [(16, [16]), (4, [16, 8, 4]), (0, [16, 8, 4, 2, 1])])
def test_out_of_memory_is_tried_again_with_half_the_rows_and_said(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, holds: int, asked: list[int]
) -> None:
    monkeypatch.setattr(benchmark, "Worker", FullWorker)
    FullWorker.holds, FullWorker.asked = holds, []
    found = benchmark.train(benchmark.RUNS["Granite 1B-A400M, bfloat16"], float("inf"))
    assert FullWorker.asked == asked
    assert found["out_of_memory_with_rows"] == asked[:-1] and found["rows_of_a_pass"] == asked[-1]
    assert ("out_of_memory" in found) == (holds == 0)


def test_a_pass_takes_the_rows_that_the_gpu_should_hold(benchmark: ModuleType) -> None:
    of_h200, of_h100 = 150e9, 85e9
    rows = {name: [run.fitting(memory).rows for memory in (of_h200, of_h100)] for name, run in benchmark.RUNS.items()}
    assert rows["Bielik 7B, bfloat16"][0] == 4 and rows["Bielik 7B, float8"][0] == 2, "what was measured"
    assert rows["Granite 1B-A400M, bfloat16"] == [16, 8]


def test_when_its_seconds_are_over_it_says_what_it_did_not_measure() -> None:
    lines = {line["what"]: line for line in run("--toy", "--seconds", "0", "--only", "Bielik 7B, bfloat16")}
    assert lines["Bielik 7B, bfloat16"]["why"] == "0 seconds were over"


def test_without_a_gpu_every_full_size_run_says_why_it_was_not_measured() -> None:
    lines = run()
    assert [line["measured"] for line in lines[1:-1]] == [False] * 4
    assert all(line["why"] == "this machine has no GPU" and "goal" in line for line in lines[1:-1])
    assert lines[-1]["what"] == "not measured"
