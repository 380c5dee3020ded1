"""Who is who, how processes meet, and what happens when one of them dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
import torch

import tiny_parallel
from crew import Crew
from vernacular.foundation.errors import UserError
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.parallel.gradients import clip_gradients
from vernacular.parallel.mesh import open_mesh
from vernacular.parallel.share import share

Hire = Callable[[int], Crew]
PATIENCE = 30.0  # seconds in which the others must have noticed


def test_one_process_is_a_mesh_of_one() -> None:
    mesh = open_mesh(ParallelConfiguration())
    assert (mesh.sizes.world, mesh.data_rank, mesh.is_first_stage, mesh.is_last_stage) == (1, 0, True, True)
    assert mesh.total(2.0, 3.0) == [2.0, 3.0]
    part = tiny_parallel.rows_of([1, 2])
    assert share(part, mesh).mask_B1TT is part.mask_B1TT
    assert not torch.distributed.is_initialized()


def test_one_process_clips_as_pytorch_does() -> None:
    mesh = open_mesh(ParallelConfiguration())
    ours, theirs = (torch.nn.Linear(8, 8) for _ in range(2))
    for linear in (ours, theirs):
        for parameter in linear.parameters():
            parameter.grad = torch.full_like(parameter, 3.0)
    expected = float(torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0))
    assert clip_gradients(ours.parameters(), mesh, 1.0) == pytest.approx(expected)
    assert ours.weight.grad is not None
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_a_gradient_that_is_not_finite_scales_nothing() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, torch.inf])
    assert clip_gradients([parameter], open_mesh(ParallelConfiguration()), 1.0) == torch.inf
    assert parameter.grad.tolist() == [1.0, torch.inf]


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"WORLD_SIZE": "3", "RANK": "0"}, "3 ranks"),
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "two"}, "not a number"),
        ({}, "1 ranks"),
    ],
)
def test_processes_that_disagree_with_the_settings_are_refused_at_once(
    environment: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=named):
        open_mesh(ParallelConfiguration(tensor=2))


def test_restarts_on_several_nodes_with_a_store_of_dead_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
        "GROUP_WORLD_SIZE": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_MAX_RESTARTS": "3",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="died") as caught:
        open_mesh(ParallelConfiguration())
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in (caught.value.fix or "")


def test_an_unknown_kind_of_device_is_refused() -> None:
    with pytest.raises(UserError, match="tpu"):
        open_mesh(ParallelConfiguration(), "tpu")


@pytest.mark.distributed
def test_every_target_is_learned_from_on_one_rank(hire: Hire) -> None:
    whole = tiny_parallel.rows_of(list(range(8)))
    for settings in ({}, {"tensor": 2}, {"context": 4}, {"context": 2, "tensor": 2}, {"pipeline": 2}):
        shares = hire(4).run(tiny_parallel.targets_of_share, settings)
        learned = sorted(target for share_of, is_last in shares if is_last for target in share_of)
        assert learned == sorted(whole.targets_BT.flatten().tolist()), settings


@pytest.mark.distributed
def test_the_others_end_when_a_rank_is_killed() -> None:
    crew = Crew(4)
    try:
        crew.run(tiny_parallel.train_spread, "dense", {}, 1, 1)
        begun = time.monotonic()
        crew.begin(tiny_parallel.train_until_told, "dense", {})
        os.kill(crew.processes[2].pid or 0, signal.SIGKILL)
        answers = crew.answers()
        assert time.monotonic() - begun < PATIENCE
        assert [went_well for went_well, _ in answers] == [False] * 4
        assert answers[2][1] == "the process is gone"
    finally:
        crew.stop()
