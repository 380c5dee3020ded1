"""An evaluate stage that is killed keeps its answers: the same command goes on, to the record of an undisturbed one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.harness_tasks import choice_task, write_task
from tests.tiny import make_tokenizer, make_weights

from vernacular.foundation.artifact import read_artifact

pytestmark = pytest.mark.slow

# The answers reach the disk twice, then the process is gone.
KILLS = """
import os, signal
fsync, seen = os.fsync, []
def fsync_twice(file):
    fsync(file)
    if os.readlink(f"/proc/self/fd/{file}").endswith("answers.jsonl"):
        seen.append(file)
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync_twice
"""


def write_recipe(folder: Path, weights: Path) -> Path:
    tasks = folder / "tasks"
    items = [{"question": f"कुआँ {n} studnia", "choices": ["पानी", "woda", f"{n}"], "label": n % 3} for n in range(150)]
    write_task(tasks, choice_task("wells"), items)
    scores = {"do": "evaluate", "weights": str(weights), "tasks": str(tasks), "template": "never"}
    path = folder / "scored.yaml"
    path.write_text(yaml.safe_dump({"name": "scored", "stages": {"scores": scores}}), encoding="utf-8")
    return path


def test_killed_it_goes_on_from_its_answers(tmp_path: Path, run_cli: Any) -> None:
    weights = make_weights(tmp_path / "model", make_tokenizer(tmp_path / "tokenizer"), max_positions=256)
    recipe = write_recipe(tmp_path, weights)
    run_cli("run", recipe, "--out", "undisturbed", cwd=tmp_path)
    (tmp_path / "kills").mkdir()
    (tmp_path / "kills/sitecustomize.py").write_text(KILLS)
    kills = {"PYTHONPATH": f"{Path(__file__).parents[2] / 'src'}:{tmp_path / 'kills'}"}
    assert run_cli("run", recipe, "--out", "killed", cwd=tmp_path, code=None, env=kills).returncode == -9
    stage = tmp_path / "killed/scored/scores"
    kept = (stage / "checkpoints/answers.jsonl").read_bytes().count(b"\n")
    assert 0 < kept < 450

    done = run_cli("run", recipe, "--out", "killed", cwd=tmp_path)
    assert "scores     continue: was interrupted" in done.stdout
    summary = read_artifact(stage).summary
    assert summary["answers"] == 450
    assert read_artifact(stage).digest == read_artifact(tmp_path / "undisturbed/scored/scores").digest
    assert not (stage / "checkpoints").exists()


def test_other_settings_begin_anew_and_a_mistake_leaves_nothing(tmp_path: Path, run_cli: Any) -> None:
    weights = make_weights(tmp_path / "model", make_tokenizer(tmp_path / "tokenizer"), max_positions=256)
    recipe = write_recipe(tmp_path, weights)
    run_cli("run", recipe, "stages.scores.limit=3", cwd=tmp_path)
    stage = tmp_path / "runs/scored/scores"
    digest = read_artifact(stage).digest
    run_cli("run", recipe, "stages.scores.only=[none]", cwd=tmp_path, code=2)
    assert read_artifact(stage).digest == digest
