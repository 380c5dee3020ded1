"""A recipe on several processes, by the real command line: one voice, one result, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file

import tiny_recipe

if TYPE_CHECKING:
    from object_store import ObjectStore

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
    command = command_of(launcher, name, restarts=1)
    checkpoint = folder / "base" / "checkpoints" / "step-00000004"
    done = run_and_kill(command, [victim], checkpoint.exists, place)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "base       continue: was interrupted" in done.stdout
    if launcher == "vernacular":
        assert f"process {victim} of 2 was killed (SIGKILL); all are started again (1 of 1)" in done.stderr
    assert_same_weights(folder, undisturbed)


@pytest.mark.parametrize("launcher", ["vernacular", "torchrun"])
def test_all_processes_killed_while_a_checkpoint_is_written_go_on_when_started_again(
    launcher: str, undisturbed: Path, place: Path
) -> None:
    name = f"killed-{launcher}-all"
    folder = copied(place, name)
    begun = folder / "base" / "checkpoints" / ".step-00000008.part"
    killed = run_and_kill(command_of(launcher, name), [0, 1], begun.exists, place)
    assert killed.returncode != 0
    assert not (folder / "base" / "model.safetensors").exists()
    done = run_and_kill(command_of(launcher, name), [], lambda: True, place)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "base       continue: was interrupted" in done.stdout
    assert_same_weights(folder, undisturbed)


@pytest.mark.parametrize("victims", [(1,), (0, 1)])
def test_a_kill_during_an_upload_leaves_the_last_whole_checkpoint_to_go_on_from(
    victims: tuple[int, ...], object_store: ObjectStore, undisturbed: Path, place: Path
) -> None:
    """Tokens and checkpoints over S3; the second rank's part of the second checkpoint is on its way."""
    name = f"uploading-{len(victims)}"
    folder = copied(place, name)
    settings = [
        f"stages.base.tokens={object_store.upload(place / 'runs' / 'tiny' / 'tokens', 'tokens')}",
        "stages.base.checkpoint_folder=s3://bucket/runs",
        f"stages.base.token_cache.folder={place / name / 'cache'}",
    ]
    restarts = 1 if len(victims) == 1 else 0
    command = [*command_of("vernacular", name, restarts), *settings]
    with object_store.holding("PUT", "step-00000008/__1_0.distcp") as arrived:
        done = run_and_kill(command, victims, arrived.is_set, place)
    if len(victims) > 1:
        assert done.returncode != 0
        marks = [key for key in object_store.objects() if key.endswith("position.json")]
        assert marks == ["runs/tiny/base/step-00000004/position.json"]
        done = run_and_kill(command, [], lambda: True, place)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "base       continue: was interrupted" in done.stdout
    assert_same_weights(folder, undisturbed)
    assert not [key for key in object_store.objects() if key.startswith("runs/")], "what is done needs no checkpoints"


def test_a_wrong_secret_is_said_once_and_kept(object_store: ObjectStore, place: Path, run_cli: Any) -> None:
    copied(place, "refused")
    said = run_cli(
        *("--traceback", "run", "tiny.yaml", "--out", "refused", "--processes", "2"),
        "stages.base.checkpoint_folder=s3://bucket/runs",
        cwd=place,
        code=3,
        env={"AWS_SECRET_ACCESS_KEY": "correct-horse-battery"},
    ).stderr
    assert said.count("access denied: ") == 1
    assert "s3://bucket/runs/tiny/base" in said
    assert "AWS_ACCESS_KEY_ID" in said
    written = [path.read_bytes() for path in (place / "refused").rglob("*") if path.is_file()]
    for secret in ("correct-horse-battery", object_store.key.secret_access_key):
        assert secret not in said
        assert not any(secret.encode() in content for content in written)


def command_of(launcher: str, name: str, restarts: int = 0) -> list[str]:
    """What Python is given to do the recipe with two processes, into the folder `name`."""
    words = ["run", "tiny.yaml", "--out", name]
    if launcher == "vernacular":
        return ["-m", "vernacular.cli.main", *words, "--processes", "2", f"--restarts={restarts}"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    return [*torchrun, "-m", "vernacular.cli.main", *words]


def assert_same_weights(one: Path, two: Path) -> None:
    for stage in ("base", "instruct"):
        first, second = ((folder / stage / "model.safetensors").read_bytes() for folder in (one, two))
        assert first == second, stage


def run_and_kill(
    command: list[str], victims: Iterable[int], is_time: Callable[[], bool], place: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command, and kill its processes of these ranks once, as soon as it is time."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as running:
        while not is_time() and running.poll() is None:
            time.sleep(0.001)
        name = command[command.index("--out") + 1]
        for process in [process for rank in victims for process in processes_of(name, rank)]:
            os.kill(process, signal.SIGKILL)
        output, errors = running.communicate(timeout=600)
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
