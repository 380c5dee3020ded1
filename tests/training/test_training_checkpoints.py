"""Checkpoints of several ranks: killed at any moment a run ends in the same bits; any layout reads what any wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemWriter

import trained_together
from crew import Crew
from killed_training import Killed
from vernacular.foundation.errors import MachineError, UserError
from vernacular.models.weights import load_decoder
from vernacular.training import checkpoint_storage
from vernacular.training.checkpoint_storage import open_storage
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.next_token import NextToken

Hire = Callable[[int], Crew]
Spread = tuple[int, dict[str, Any]]


def run(hire: Hire, ranks: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    return [function(*arguments)] if ranks == 1 else hire(ranks).run(function, *arguments)


def distance(first: Path, second: Path) -> float:
    """The largest difference between the weights of two runs."""
    one, two = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(
    ("model", "parallel", "is_async", "moment", "ranks"),
    [
        ("dense", {}, False, "in the update", (1,)),
        ("mixture", {"expert": 2}, True, "in the update", (0, 1)),
        ("dense", {"tensor": 2}, False, "in writing", (1,)),
        ("mixture", {"expert": 2}, False, "in writing", (0, 1)),
        ("dense", {}, True, "in writing", (0,)),
        ("dense", {}, True, "in writing", (0, 1)),
        ("dense", {"pipeline": 2, "schedule": "gpipe"}, False, "before the commit", (0,)),
        ("mixture", {"expert": 2}, True, "before the commit", (0,)),
    ],
    ids=str,
)
def test_killed_ranks_started_again_end_in_the_bits_of_the_undisturbed_run(
    model: str,
    parallel: dict[str, Any],
    is_async: bool,
    moment: str,
    ranks: tuple[int, ...],
    hire: Hire,
    tokens: Path,
    tmp_path: Path,
) -> None:
    changes = {"parallel": parallel, "micro_batch_tokens": 48, "log_every": 4}
    hire(2).run(trained_together.train, model, changes, tokens, tmp_path / "undisturbed")
    changes["checkpoint_async"] = is_async
    killed = hire(2)
    killed.begin(trained_together.train_and_die, moment, ranks, model, changes, tokens, tmp_path / "killed")
    assert [fine for fine, _ in killed.answers()] == [False, False]
    killed.stop()
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    (left,) = (tmp_path / "killed").glob("checkpoints/*/position.json")
    assert json.loads(left.read_text())["step"] == 2
    hire(2).run(trained_together.train, model, changes, tokens, tmp_path / "killed")
    assert distance(tmp_path / "undisturbed", tmp_path / "killed") == 0
    undisturbed, resumed = (read_metrics(tmp_path / name) for name in ("undisturbed", "killed"))
    assert [line["loss"] for line in undisturbed] == [line["loss"] for line in resumed]


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("model", "way"),
    [
        ("dense", [(4, {}), (1, {}), (2, {})]),
        ("dense", [(1, {}), (2, {"tensor": 2}), (1, {})]),
        ("mixture", [(4, {"expert": 4}), (2, {}), (1, {})]),
        ("mixture", [(2, {}), (4, {"expert": 2, "tensor": 2}), (2, {"pipeline": 2})]),
    ],
    ids=str,
)
def test_a_run_goes_on_under_any_layout(
    model: str, way: list[Spread], hire: Hire, tokens: Path, tmp_path: Path
) -> None:
    trained_together.train(model, {}, tokens, tmp_path / "alone")
    *before, (ranks, parallel) = way
    folder = tmp_path / "moved"
    for place, (on, layout) in enumerate(before):
        changes = {"parallel": layout, "micro_batch_tokens": 48}
        run(hire, on, trained_together.train_until, 2, model, changes, tokens, folder)
        assert open_storage(folder / "checkpoints").names("step")[-1] == f"step-0000000{2 * place + 2}"
    run(hire, ranks, trained_together.train, model, {"parallel": parallel, "micro_batch_tokens": 48}, tokens, folder)
    assert distance(tmp_path / "alone", folder) < 1e-4
    alone, moved = (read_metrics(tmp_path / name) for name in ("alone", "moved"))
    assert [line["step"] for line in moved] == [line["step"] for line in alone]
    assert [line["loss"] for line in moved] == pytest.approx([line["loss"] for line in alone], rel=2e-6)


@pytest.mark.distributed
@pytest.mark.parametrize(
    "way", [[(4, {}), (1, {}), (2, {"pipeline": 2})], [(2, {"expert": 2}), (4, {}), (1, {})]], ids=str
)
def test_averages_in_eight_bits_go_on_under_any_layout(
    way: list[Spread], hire: Hire, tokens: Path, tmp_path: Path
) -> None:
    """Codes and scales are handed over as they are; sums in another order may move a value to the next code."""
    model = "mixture" if "expert" in way[0][1] else "dense"
    changes = {"optimiser": {"name": "adamw-8bit"}, "micro_batch_tokens": 48}
    trained_together.train(model, changes, tokens, tmp_path / "alone")
    folder = tmp_path / "moved"
    for ranks, layout in way[:-1]:
        run(hire, ranks, trained_together.train_until, 2, model, changes | {"parallel": layout}, tokens, folder)
    ranks, layout = way[-1]
    run(hire, ranks, trained_together.train, model, changes | {"parallel": layout}, tokens, folder)
    assert distance(tmp_path / "alone", folder) < 2e-3
    alone, moved = (read_metrics(tmp_path / name) for name in ("alone", "moved"))
    assert [line["loss"] for line in moved] == pytest.approx([line["loss"] for line in alone], rel=1e-5)


@pytest.mark.distributed
def test_global_batches_do_not_depend_on_ranks_or_restarts(hire: Hire, tokens: Path, tmp_path: Path) -> None:
    (whole,) = run(hire, 1, trained_together.rows_read, {}, tokens, tmp_path / "1")
    assert [len(rows) for rows in whole] == [8] * 6
    for ranks in (2, 4):
        parts = run(hire, ranks, trained_together.rows_read, {}, tokens, tmp_path / str(ranks))
        assert [[row for part in step for row in part] for step in zip(*parts, strict=True)] == whole
    for step in range(1, 6):
        folder = tmp_path / f"restarted-{step}"
        run(hire, 1, trained_together.train_until, step, "dense", {"checkpoint_every": 1}, tokens, folder)
        (rest,) = run(hire, 1, trained_together.rows_read, {"checkpoint_every": 1}, tokens, folder)
        assert rest == whole[step:]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("elsewhere", [None, "memory://{}", "file://{}/elsewhere", "{}/plain"])
def test_checkpoints_lie_where_they_are_to(elsewhere: str | None, is_async: bool, tokens: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"checkpoint_every": 1, "keep_every": 3, "checkpoint_async": is_async}
    trained_together.train("dense", changes, tokens, tmp_path / "run" / "undisturbed")
    place: str | Path = tmp_path / "run" / "base" / "checkpoints"
    if elsewhere is not None:
        changes["checkpoint_folder"] = elsewhere.format(tmp_path)
        place = f"{changes['checkpoint_folder']}/run/base"
    trained_together.train_until(4, "dense", changes, tokens, tmp_path / "run" / "base")
    assert open_storage(place).names("step") == ["step-00000003", "step-00000004"]
    trained_together.train("dense", changes, tokens, tmp_path / "run" / "base")
    assert open_storage(place).names("step") == ["step-00000003", "step-00000005", "step-00000006"]
    assert distance(tmp_path / "run" / "undisturbed", tmp_path / "run" / "base") == 0


@pytest.mark.distributed
def test_ranks_write_to_an_object_store_together(hire: Hire, tokens: Path, tmp_path: Path) -> None:
    changes = {"checkpoint_folder": f"file://{tmp_path}/store", "checkpoint_async": True, "parallel": {"tensor": 2}}
    hire(2).run(trained_together.train_until, 4, "dense", changes, tokens, tmp_path / "run" / "moved")
    trained_together.train("dense", changes | {"parallel": {}}, tokens, tmp_path / "run" / "moved")
    trained_together.train("dense", {}, tokens, tmp_path / "run" / "alone")
    assert distance(tmp_path / "run" / "alone", tmp_path / "run" / "moved") < 1e-4


def test_the_best_checkpoint_stays_and_its_weights_are_written(tokens: Path, tmp_path: Path) -> None:
    # The rate grows until the loss does too: the best is not the last.
    changes = {
        "keep_best": {"metric": "heldout_loss"},
        "heldout_every": 1,
        "steps": 8,
        "optimiser": {"learning_rate": 0.9, "warmup_steps": 8, "clip": None},
    }
    summary = trained_together.train("dense", changes, tokens, tmp_path / "run")
    losses = {line["step"]: line["heldout_loss"] for line in read_metrics(tmp_path / "run")}
    best = min(losses, key=losses.__getitem__)
    assert best < 8
    assert (summary["best_step"], summary["best"]) == (best, losses[best])
    assert open_storage(tmp_path / "run" / "checkpoints").names("best") == [f"best-{best:08d}"]
    trained_together.train_until(best, "dense", changes | {"checkpoint_every": 1}, tokens, tmp_path / "until")
    trained_together.train("dense", changes | {"keep_best": None, "steps": 8}, tokens, tmp_path / "plain")
    assert distance(tmp_path / "plain", tmp_path / "run") == 0
    assert distance(tmp_path / "run" / "best", tmp_path / "run") > 0
    load_decoder(tmp_path / "run" / "best")


def test_a_checkpoint_removed_in_part_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(tmp_path)
    for step in (2, 4):
        storage.begin(f"step-{step:08d}")
        storage.commit(f"step-{step:08d}", {"step": step})

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint_storage.shutil, "rmtree", killed)
        storage.remove("step-00000004")
    assert storage.names("step") == ["step-00000002"]
    storage.begin("step-00000006")
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000002"]


def test_a_metric_that_nothing_measures_is_refused(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="heldout_los") as caught:
        trained_together.train("dense", {"keep_best": {"metric": "heldout_los"}}, tokens, tmp_path)
    assert "heldout_loss" in str(caught.value)


def test_the_best_by_what_is_not_held_out_is_refused(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NextToken, "strata", lambda self: [])
    with pytest.raises(UserError, match="unknown metric 'heldout_loss'") as caught:
        trained_together.train("dense", {"keep_best": {"metric": "heldout_loss"}}, tokens, tmp_path)
    assert caught.value.where == "keep_best.metric"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_store_that_cannot_be_written_ends_the_run(is_async: bool, tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    changes = {"checkpoint_folder": f"file://{tmp_path}/file/below", "checkpoint_async": is_async}
    with pytest.raises(MachineError) as caught:
        trained_together.train("dense", changes, tokens, tmp_path / "run")
    assert "checkpoint" in str(caught.value)
    assert str(tmp_path / "file") in str(caught.value)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_who_interrupts_a_checkpoint_is_heard(
    elsewhere: bool, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write(*_: object) -> None:
        written.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(FileSystemWriter, "write_data", write)
    changes = {"checkpoint_folder": f"file://{tmp_path}/there"} if elsewhere else {}
    with pytest.raises(KeyboardInterrupt):
        trained_together.train("dense", changes, tokens, tmp_path / "run")
    assert written == [1]
