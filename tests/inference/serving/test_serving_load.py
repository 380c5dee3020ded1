"""Sixty-four clients at once, as the benchmark has them, for a short while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_many_clients_for_ten_seconds() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "serving.py"), "--seconds", "10", "--clients", "64", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        encoding="utf-8",
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["errors"] == 0
    assert found["still_running"] == 0
    assert found["exit_code"] == 0
    assert found["requests"] >= 64
    sizes = found["resident_bytes_by_eighth"]
    assert sizes[-1] - sizes[len(sizes) // 2] < 64 << 20
