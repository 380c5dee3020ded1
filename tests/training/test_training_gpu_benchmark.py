"""The benchmark of training on a GPU, at toy size on whatever is here: it runs, and says what it did not measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def test_without_a_gpu_every_full_size_run_says_why_it_was_not_measured() -> None:
    lines = run()
    assert [line["measured"] for line in lines[1:-1]] == [False] * 4
    assert all(line["why"] == "this machine has no GPU" and "goal" in line for line in lines[1:-1])
    assert lines[-1]["what"] == "not measured"
