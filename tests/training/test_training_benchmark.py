"""The benchmark of training, at toy size: it runs, its programs agree, its lines have their figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training.py"


@pytest.mark.slow
def test_a_trial_measures_every_row() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--smoke", "--json"], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    measured = [line for line in lines if line["what"] != "machine"]
    assert len({line["what"] for line in measured}) == 5
    for line in measured:
        assert line["tokens_per_processor_second"] > 0 and line["peak_bytes"] > 1 << 20
    peers = [line for line in measured if line["program"] == "transformers"]
    assert len(peers) == 4 and all(line["ours ×"] > 0 for line in peers)
