"""Several processes answer one evaluation, by the real command line: the record is that of one, also after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import make_tokenizer, make_weights

pytestmark = [pytest.mark.slow, pytest.mark.distributed, pytest.mark.timeout(900)]

RECORD = ("scores.json", "scores.md", "records/run.json", "records/one.parquet")
# The second process's own answers reach the disk once, then it is gone.
KILLS = """
import os, signal
fsync = os.fsync
def fsync_once(file):
    fsync(file)
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ.get("RANK") == "1":
    os.fsync = fsync_once
"""


def test_two_processes_make_the_record_of_one(make_task: Callable[..., Path], tmp_path: Path, run_cli: Any) -> None:
    items = [
        {"question": f"पानी {number} woda?", "choices": [f"tak {number}", "nie", "może", "नहीं"], "label": number % 4}
        for number in range(200)
    ]
    weights = make_weights(tmp_path / "model", make_tokenizer(tmp_path / "tokenizer"), max_positions=256)
    words = ("evaluate", weights, "--tasks", make_task(items), "--template", "never", "--no-cache")
    run_cli(*words, "-o", tmp_path / "one")

    (tmp_path / "kills").mkdir()
    (tmp_path / "kills/sitecustomize.py").write_text(KILLS)
    kills = {"PYTHONPATH": f"{Path(__file__).parents[2] / 'src'}:{tmp_path / 'kills'}"}
    two = (*words, "--processes", "2", "-o", tmp_path / "two")
    killed = run_cli(*two, code=None, env=kills)
    assert killed.returncode not in (0, 2)
    assert "process 1 of 2 was killed (SIGKILL)" in killed.stderr
    assert (tmp_path / "two/answers.1.jsonl").stat().st_size
    assert not (tmp_path / "two/scores.json").exists()

    done = run_cli(*two, "--resume")
    assert done.stderr.count("| one") >= 1
    for name in RECORD:
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    assert not [*(tmp_path / "two").glob("answers*"), *(tmp_path / "two").glob("requests*")]


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
