"""torchrun, with a rank that is killed: the processes are started again and go on from the checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

import tiny_parallel
from crew import Crew


@pytest.mark.slow
@pytest.mark.distributed
def test_a_killed_run_is_restarted_and_ends_with_the_very_same_weights(
    hire: Callable[[int], Crew], repository: Path, tmp_path: Path
) -> None:
    script = repository / "tests" / "elastic_run.py"
    folders = os.pathsep.join(str(repository / folder) for folder in ("src", "tests"))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    done = subprocess.run(
        [*launch, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": folders},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]

    undisturbed = hire(2).run(tiny_parallel.train_spread, "dense", {})[0]
    with safe_open(tmp_path / "weights.safetensors", framework="pt") as file:
        assert file.metadata()["began"] == "2"
        assert all(file.get_tensor(name).equal(weight) for name, weight in undisturbed.weights.items())
