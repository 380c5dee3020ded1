"""A recipe on several processes, by the real command line: one voice, one result, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import tiny_recipe

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

STAGES = ("corpus", "tokenizer", "tokens", "base", "instruct")
SOURCES = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, run_cli: Any) -> Path:
    """A folder with a recipe whose data is ready in runs/tiny."""
    folder = tmp_path_factory.mktemp("place")
    tiny_recipe.write_texts(folder / "texts")
    tiny_recipe.write_conversations(folder / "chats.jsonl")
    tiny_recipe.write_recipe(folder / "tiny.yaml", folder / "texts", folder / "chats.jsonl")
    run_cli("run", "tiny.yaml", "--until", "tokens", cwd=folder)
    return folder


def copied(place: Path, name: str) -> Path:
    subprocess.run(["cp", "-r", place / "runs", place / name], check=True)
    return place / name / "tiny"


@pytest.fixture(scope="module")
def undisturbed(place: Path, run_cli: Any) -> Path:
    """The artifacts of two processes."""
    folder = copied(place, "undisturbed")
    done = run_cli("run", "tiny.yaml", "--out", "undisturbed", "--processes", "2", cwd=place)
    assert done.stdout.count("instruct   done in") == 1
    assert "tiny: 2 of 5 stages done" in done.stdout
    return folder


def test_two_processes_make_what_one_makes(undisturbed: Path, place: Path, run_cli: Any) -> None:
    alone = copied(place, "alone")
    run_cli("run", "tiny.yaml", "--out", "alone", cwd=place)
    for stage in ("base", "instruct"):
        one, two = (load_file(folder / stage / "model.safetensors") for folder in (alone, undisturbed))
        assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-3
        assert not (undisturbed / stage / "checkpoints").exists()
    again = run_cli("run", "tiny.yaml", "--out", "undisturbed", "--processes", "2", cwd=place)
    assert again.stdout.count("up to date") == len(STAGES)


@pytest.mark.parametrize(("launcher", "victim"), [("vernacular", 1), ("torchrun", 0)])
def test_a_killed_process_is_started_again_and_the_weights_are_the_same(
    launcher: str, victim: int, undisturbed: Path, place: Path
) -> None:
    name = f"killed-{launcher}-{victim}"
    folder = copied(place, name)
    words = ["run", "tiny.yaml", "--out", name]
    if launcher == "vernacular":
        command = ["-m", "vernacular.cli.main", *words, "--processes", "2", "--restarts", "1"]
    else:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
        command = [*torchrun, "-m", "vernacular.cli.main", *words]
    done = run_and_kill(command, victim, folder / "base" / "checkpoints" / "step-00000004", place)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "base       continue: was interrupted" in done.stdout
    if launcher == "vernacular":
        assert f"process {victim} of 2 was killed (SIGKILL); all are started again (1 of 1)" in done.stderr
    for stage in ("base", "instruct"):
        assert (folder / stage / "model.safetensors").read_bytes() == (
            undisturbed / stage / "model.safetensors"
        ).read_bytes()


def run_and_kill(command: list[str], victim: int, awaited: Path, place: Path) -> subprocess.CompletedProcess[str]:
    """Run a command, and kill its process of this rank once, as soon as a checkpoint is there."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as running:
        while not awaited.exists() and running.poll() is None:
            os.sched_yield()
        for process in processes_of(awaited.parents[3].name, victim):
            os.kill(process, signal.SIGKILL)
        output, errors = running.communicate(timeout=240)
    return subprocess.CompletedProcess(command, running.returncode, output, errors)


def processes_of(name: str, rank: int) -> list[int]:
    """The processes of this rank that write to the folder `name`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words, environment = ((folder / file).read_bytes().split(b"\0") for file in ("cmdline", "environ"))
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if name.encode() in words and b"RANK=%d" % rank in environment:
            found.append(int(folder.name))
    return found


def test_a_mistake_is_said_once_and_not_tried_again(place: Path, run_cli: Any) -> None:
    copied(place, "mistaken")
    words = ["run", "tiny.yaml", "--out", "mistaken", "--processes", "3", "--restarts", "2"]
    refused = run_cli(*words, cwd=place, code=2).stderr
    assert refused.count("error:") == 1
    assert "batch_tokens" in refused
    assert "started again" not in refused


def test_a_full_disk_under_the_checkpoints_ends_the_run_which_then_goes_on(undisturbed: Path, place: Path) -> None:
    """A file system of some kilobytes, in a namespace of its own, which is made larger for the second try."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs user namespaces (unshare -rm), which this machine does not allow")
    folder = copied(place, "full")
    disk = place / "disk"
    disk.mkdir()
    run = (
        '"$2" -m vernacular.cli.main run tiny.yaml --out full --processes 2 stages.base.keep_checkpoints=1'
        ' stages.base.checkpoint_async=true stages.base.checkpoint_folder="$1"'
    )
    script = (
        f'mount -t tmpfs -o size=900k tmpfs "$1" && {run}; echo "code $?" >&2; find "$1" -name position.json >&2;'
        f' mount -o remount,size=90m "$1" && {run}'
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(disk), sys.executable],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "code 3" in done.stderr
    assert done.stderr.count("the disk is full, while writing a checkpoint") == 1
    assert "base       continue: was interrupted" in done.stdout
    assert (folder / "base" / "model.safetensors").read_bytes() == (
        undisturbed / "base" / "model.safetensors"
    ).read_bytes()
