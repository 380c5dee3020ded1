"""`vernacular run`, `plan` and `inspect` as a user meets them: the real command line, real files, real kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny_recipe

STAGES = ("corpus", "tokenizer", "tokens", "base", "instruct")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, conversations and a recipe."""
    folder = tmp_path_factory.mktemp("place")
    tiny_recipe.write_texts(folder / "texts")
    tiny_recipe.write_conversations(folder / "chats.jsonl")
    tiny_recipe.write_recipe(folder / "tiny.yaml", folder / "texts", folder / "chats.jsonl")
    return folder


@pytest.fixture(scope="module")
def finished(place: Path, run_cli: Any) -> Path:
    """The recipe's artifacts, after an undisturbed run."""
    run_cli("run", "tiny.yaml", cwd=place)
    return place / "runs" / "tiny"


def copy_of(finished: Path, out: Path, *stages: str) -> Path:
    """Copies of finished stages in a place of their own; returns the folder of the recipe's artifacts."""
    for stage in stages:
        shutil.copytree(finished / stage, out / "tiny" / stage)
    return out / "tiny"


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "artifact.json").read_text(encoding="utf-8")))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_every_stage_leaves_an_artifact(finished: Path) -> None:
    for name in STAGES:
        artifact = record(finished / name)
        assert artifact["stage"] == name
        assert artifact["outputs"]
        assert artifact["seconds"] > 0
        assert artifact["versions"]["torch"]
        assert artifact["machine"]["cores"] >= 1
        assert not (finished / name / "unfinished.json").exists()
        assert not (finished / name / "checkpoints").exists()
    assert record(finished / "base")["inputs"]["tokens"]["digest"] == record(finished / "tokens")["digest"]


def test_run_again_it_does_nothing(finished: Path, place: Path, run_cli: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    again = run_cli("run", "tiny.yaml", cwd=place)
    assert again.stdout.count("up to date") == len(STAGES)
    assert "0 of 5 stages done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"} == before


def test_plan_says_what_and_why_and_what_it_costs(finished: Path, place: Path, run_cli: Any) -> None:
    assert run_cli("plan", "tiny.yaml", cwd=place).stdout.count("up to date") == len(STAGES)
    changed = run_cli("plan", "tiny.yaml", "stages.base.steps=30", cwd=place).stdout
    base = next(line for line in changed.splitlines() if line.startswith("base"))
    assert "steps: 12 → 30" in base
    assert "7.68k" in base, "30 steps of 256 tokens"
    # 2 · 420 · 32 for the embeddings and the head, 2 blocks of 9,280 weights, the last norm of 32: 45,472 parameters.
    assert "45.47k" in base
    assert "after base" in next(line for line in changed.splitlines() if line.startswith("instruct"))
    assert record(finished / "base")["configuration"]["steps"] == 12, "plan writes nothing"


def test_a_change_redoes_what_depends_on_it_and_only_that(finished: Path, place: Path, run_cli: Any) -> None:
    out = place / "changed"
    copy_of(finished, out, *STAGES)
    again = run_cli("run", "tiny.yaml", "--out", out, "stages.instruct.optimiser.learning_rate=0.001", cwd=place)
    assert again.stdout.count("up to date") == 4
    assert "optimiser.learning_rate: 0.01 → 0.001" in again.stdout
    watched = run_cli(
        "run", "tiny.yaml", "--out", out, "stages.instruct.optimiser.learning_rate=0.001", "stages.base.log_every=3",
        cwd=place,
    )  # fmt: skip
    assert "0 of 5 stages done" in watched.stdout, "how often metrics are written changes no weights"


def test_two_runs_give_the_same_bits(finished: Path, place: Path, run_cli: Any) -> None:
    run_cli("run", "tiny.yaml", "--out", "second", cwd=place)
    for name in STAGES:
        assert record(finished / name)["digest"] == record(place / "second" / "tiny" / name)["digest"], name


@pytest.mark.parametrize("victim", ["base", "instruct"])
def test_killed_and_run_again_it_ends_in_the_same_bits(victim: str, finished: Path, place: Path, run_cli: Any) -> None:
    out = place / f"killed-{victim}"
    folder = copy_of(finished, out, *STAGES[: STAGES.index(victim)]) / victim
    command = [sys.executable, "-m", "vernacular.cli.main", "run", "tiny.yaml", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    process = subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        while not list(folder.glob("checkpoints/step-*")):
            assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (folder / "artifact.json").exists()
    resumed = run_cli("run", "tiny.yaml", "--out", out, cwd=place).stdout
    assert f"{victim:<10} continue: was interrupted" in resumed
    assert weights(folder) == weights(finished / victim)
    assert record(folder)["digest"] == record(finished / victim)["digest"]
    curves = [
        [json.loads(line)["loss"] for line in (root / "logs" / "metrics.jsonl").read_text().splitlines()]
        for root in (folder, finished / victim)
    ]
    assert curves[0] == curves[1]


def test_inspect_draws_the_ancestry(finished: Path, place: Path, run_cli: Any) -> None:
    tree = run_cli("inspect", finished / "instruct", cwd=place).stdout
    lines = tree.splitlines()
    assert lines[0].startswith("instruct  [sft]")
    for part in ("weights: base  [pretrain]", "tokens: tokens", "tokenizer: tokenizer", "documents: corpus"):
        assert part in tree
    assert record(finished / "base")["digest"][:12] in tree


def test_a_damaged_artifact_is_refused_with_its_checksum(finished: Path, place: Path, run_cli: Any) -> None:
    out = place / "damaged"
    folder = copy_of(finished, out, "corpus", "tokenizer", "tokens")
    shard = folder / "tokens" / "train" / "00000.ids.bin"
    recorded = record(folder / "tokens")["outputs"]["train/00000.ids.bin"]["sha256"]
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    refused = run_cli("run", "tiny.yaml", "--out", out, cwd=place, code=2).stderr
    assert str(shard) in refused
    assert recorded in refused
    shard.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    altered = run_cli("run", "tiny.yaml", "--out", out, cwd=place, code=2).stderr
    assert "was altered" in altered
    assert recorded in altered
    assert not (folder / "base").exists()


@pytest.mark.slow
def test_tokens_are_read_from_an_address(finished: Path, place: Path, run_cli: Any) -> None:
    store = place / "store" / "tokens"
    shutil.copytree(finished / "tokens", store)
    recipe = yaml.safe_load((place / "tiny.yaml").read_text(encoding="utf-8"))
    cache = {"folder": str(place / "cache"), "attempts": 1}
    base = recipe["stages"]["base"] | {"tokens": store.as_uri(), "token_cache": cache}
    (place / "far.yaml").write_text(yaml.safe_dump({"name": "far", "stages": {"base": base}}), encoding="utf-8")
    run_cli("run", "far.yaml", cwd=place)
    assert weights(place / "runs" / "far" / "base") == weights(finished / "base")
    inputs = record(place / "runs" / "far" / "base")["inputs"]
    assert inputs["tokens"] == {"name": store.as_uri(), "digest": record(finished / "tokens")["digest"]}
    shard = next((store / "train").glob("*.ids.bin"))
    shard.write_bytes(shard.read_bytes()[::-1])
    shutil.rmtree(place / "cache")
    assert "up to date" in run_cli("plan", "far.yaml", cwd=place).stdout, "the index is what it was"
    refused = run_cli("run", "far.yaml", "stages.base.steps=3", cwd=place, code=2)
    assert f"ids of the shard {shard.name.partition('.')[0]} of split train" in refused.stderr
    assert f"where: {store.as_uri()}/train/{shard.name}" in refused.stderr


def test_a_second_run_in_the_same_folder_is_refused(place: Path, run_cli: Any) -> None:
    import fcntl

    (place / "busy" / "tiny").mkdir(parents=True)
    with open(place / "busy" / "tiny" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = run_cli("run", "tiny.yaml", "--out", "busy", cwd=place, code=2).stderr
    assert "another run is working" in refused


def test_what_was_there_stays_when_its_replacement_fails(finished: Path, place: Path, run_cli: Any) -> None:
    out = place / "kept"
    folder = copy_of(finished, out, "corpus", "tokenizer")
    before = record(folder / "tokenizer")
    failed = run_cli("run", "tiny.yaml", "--out", out, "stages.tokenizer.vocab_size=60000", cwd=place, code=2).stderr
    assert "larger than the text supports" in failed
    assert record(folder / "tokenizer") == before
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "corpus", "tokenizer"]


def test_foreign_files_are_not_touched(place: Path, run_cli: Any) -> None:
    mine = place / "mine" / "tiny" / "corpus" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("irreplaceable")
    refused = run_cli("run", "tiny.yaml", "--out", "mine", cwd=place, code=2).stderr
    assert "no stage wrote" in refused
    assert mine.read_text() == "irreplaceable"


@pytest.mark.parametrize("kilobytes", [24, 400])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(kilobytes: int, finished: Path, place: Path) -> None:
    """A file system of a few kilobytes, in a namespace of its own."""
    can_mount = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
    if not can_mount:
        pytest.skip("needs user namespaces (unshare -rm), which this machine does not allow")
    disk = place / f"disk-{kilobytes}"
    disk.mkdir()
    script = (
        f'mount -t tmpfs -o size={kilobytes}k tmpfs "$1" && "$2" -m vernacular.cli.main run tiny.yaml --out "$1"; '
        'code=$?; find "$1" -type f; exit $code'
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(disk), sys.executable],
        cwd=place,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the disk is full" in done.stderr
    assert "where:" in done.stderr
    left = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(disk))]
    stages = {path.relative_to(disk / "tiny").parts[0] for path in left} - {".lock"}
    for stage in stages:
        assert disk / "tiny" / stage / "artifact.json" in left or any("checkpoints" in path.parts for path in left), (
            stage
        )


@pytest.mark.parametrize(
    ("setting", "processes", "message"),
    [
        ("parallel={tensor: 2}", 1, "does not divide the 1 ranks started"),
        ("batch_tokens=64", 2, "a batch of 1 rows cannot be shared out evenly among 2 ranks"),
        ("parallel={pipeline: 2}", 2, "a step of 1 micro-batches cannot fill a pipeline of 2 stages"),
        ("parallel={tensor: 2}", 2, "tensor is 2, which does not divide the model's num_key_value_heads 1"),
        ("sequence_length=128", 1, "sequence_length 128 exceeds the weights' limit of 64"),
    ],
)
def test_what_a_later_stage_cannot_have_is_refused_before_the_first(
    setting: str, processes: int, message: str, place: Path, tmp_path: Path, run_cli: Any
) -> None:
    overrides = ("stages.base.model.num_key_value_heads=1", f"stages.instruct.{setting}")
    refused = run_cli("run", "tiny.yaml", *overrides, "--out", tmp_path, "--processes", processes, cwd=place, code=2)
    assert message in refused.stderr
    assert f"where: override {overrides[1]}" in refused.stderr
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == [".lock"]
