"""Several processes answer one evaluation, by the real command line: the record is that of one, also after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import make_tokenizer, make_weights

pytestmark = [pytest.mark.slow, pytest.mark.distributed, pytest.mark.timeout(900)]

RECORD = ("scores.json", "scores.md", "records/run.json", "records/one.parquet")
# The second process's own answers reach the disk once, then it is gone; the first waits for that once it has answered.
# Started again by torchrun, both go on as always.
KILLS = """
import os, signal
from pathlib import Path
fsync = os.fsync
def first_waits(file):
    fsync(file)
    own = Path(os.readlink(f"/proc/self/fd/{file}"))
    others = own.with_name("answers.1.jsonl")
    while own.name == "answers.jsonl" and not (others.exists() and others.stat().st_size):
        os.sched_yield()
def second_dies(file):
    fsync(file)
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
    os.fsync = {"0": first_waits, "1": second_dies}.get(os.environ.get("RANK"), fsync)
"""

SOURCES = str(Path(__file__).parents[2] / "src")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@pytest.fixture
def words(make_task: Callable[..., Path], tmp_path: Path) -> tuple[Any, ...]:
    """The command that scores 200 items."""
    items = [
        {"question": f"पानी {number} woda?", "choices": [f"tak {number}", "nie", "może", "नहीं"], "label": number % 4}
        for number in range(200)
    ]
    weights = make_weights(tmp_path / "model", make_tokenizer(tmp_path / "tokenizer"), max_positions=256)
    return ("evaluate", weights, "--tasks", make_task(items), "--template", "never", "--no-cache")


@pytest.fixture
def kills(tmp_path: Path) -> dict[str, str]:
    """Variables under which the second process is killed."""
    (tmp_path / "kills").mkdir()
    (tmp_path / "kills/sitecustomize.py").write_text(KILLS)
    return {"PYTHONPATH": f"{SOURCES}:{tmp_path / 'kills'}"}


def torchrun(*words: Any, env: Mapping[str, str], restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Two processes, started by torchrun."""
    module = (f"--max-restarts={restarts}", "-m", "vernacular.cli.main")
    command = [sys.executable, *TORCHRUN, *module, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": SOURCES, **env}
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=600, check=False)


def assert_is_record_of_one(words: Any, tmp_path: Path, run_cli: Any) -> None:
    run_cli(*words, "-o", tmp_path / "one")
    for name in RECORD:
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    assert not [*(tmp_path / "two").glob("answers*"), *(tmp_path / "two").glob("requests*")]


@pytest.mark.parametrize("launcher", ["vernacular", "torchrun"])
def test_two_processes_make_the_record_of_one(
    launcher: str, words: Any, kills: dict[str, str], tmp_path: Path, run_cli: Any
) -> None:
    def two(*more: Any, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        if launcher == "torchrun":
            return torchrun(*words, "-o", tmp_path / "two", *more, env=env)
        return run_cli(*words, "-o", tmp_path / "two", "--processes", "2", *more, code=None, env=env)

    killed = two(env=kills)
    assert killed.returncode not in (0, 2)
    said = {"vernacular": "process 1 of 2 was killed (SIGKILL)", "torchrun": "Signal 9 (SIGKILL)"}
    assert said[launcher] in killed.stderr
    assert (tmp_path / "two/answers.1.jsonl").stat().st_size
    assert not (tmp_path / "two/scores.json").exists()
    again = two(env={})
    assert again.returncode != 0
    assert "go on with it by --resume" in again.stderr

    done = two("--resume", env={})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("| one ") == 4  # a line for each metric, printed once
    assert_is_record_of_one(words, tmp_path, run_cli)


def test_what_torchrun_starts_again_goes_on(words: Any, kills: dict[str, str], tmp_path: Path, run_cli: Any) -> None:
    done = torchrun(*words, "-o", tmp_path / "two", "--resume", env=kills, restarts=1)
    assert done.returncode == 0, done.stderr
    assert "Signal 9 (SIGKILL)" in done.stderr or "exitcode: -9" in done.stderr
    assert_is_record_of_one(words, tmp_path, run_cli)


def test_a_mistake_is_said_once(make_task: Callable[..., Path], tmp_path: Path, run_cli: Any) -> None:
    weights = make_weights(tmp_path / "model", make_tokenizer(tmp_path / "tokenizer"), max_positions=256)
    items = [{"question": "?", "choices": ["tak", "nie"], "label": 0}]
    words = (
        "evaluate",
        weights,
        "--tasks",
        make_task(items),
        "-o",
        tmp_path / "out",
        "--processes",
        "2",
        "--template",
        "never",
    )
    done = run_cli(*words, "--only", "other", code=2)
    assert done.stderr.count("unknown task 'other'") == 1
