"""The benchmark of decoding on a GPU runs, at toy size on a CPU; without a GPU it says what it did not measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_benchmark(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "benchmarks" / "inference_gpu.py"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_a_gpu_nothing_is_claimed() -> None:
    finished = run_benchmark()
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert "no GPU that PyTorch can use; not measured: Granite 1B-A400M, batch 1, ours bfloat16; " in finished.stderr
    assert "7B, batch 256, transformers bfloat16" in finished.stderr


@pytest.mark.slow
def test_every_row_is_measured_at_toy_size() -> None:
    finished = run_benchmark("--smoke")
    assert finished.returncode == 0, finished.stderr
    machine, *rows = [json.loads(line) for line in finished.stdout.splitlines()]
    assert machine["bandwidth_bytes_per_second"] > 0
    programs = ["smoke mixture, {}, ours bfloat16", "smoke mixture, {}, transformers bfloat16"]
    programs += ["smoke, {}, ours int4", "smoke, {}, transformers-compiled bfloat16"]
    names = [program.format(f"batch {number}") for program in programs for number in (1, 3)]
    assert [row["what"] for row in rows] == names
    for row in rows:  # of a busy machine, so nothing is said of their size
        assert row["tokens_per_second"] > 0 and row["peak_bytes"] > 1 << 20
        assert ("bandwidth_share" in row) == ("batch 1," in row["what"])
    ours, theirs = rows[1], rows[3]
    assert theirs["ratios"] == {"this / ours bfloat16": theirs["tokens_per_second"] / ours["tokens_per_second"]}


def test_when_its_seconds_are_over_it_says_what_it_did_not_measure() -> None:
    finished = run_benchmark("--smoke", "--seconds", "0")
    assert finished.returncode == 0, finished.stderr
    _, *rows = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(rows) == 4 * 2
    assert {(row["measured"], row["why"]) for row in rows} == {(False, "0 seconds were over")}
