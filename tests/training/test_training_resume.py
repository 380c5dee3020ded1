"""Killed at any step and resumed, a run ends in the same bits, whatever changes its weights; spikes are left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from killed_training import killed_at_update
from tiny_training import SHAPE, settings
from vernacular.foundation.errors import UserError
from vernacular.models.decoder import Decoder
from vernacular.tokens.order import Order
from vernacular.training.configuration import PretrainConfiguration, SpikeConfiguration
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.next_token import NextToken
from vernacular.training.objectives.objective import Loss
from vernacular.training.objectives.pretrain import pretrain
from vernacular.training.position import Position, StepResult
from vernacular.training.spikes import SpikeRule

EXPERTS = SHAPE | {"family": "granitemoe", "num_experts": 4, "experts_per_token": 2}
RULE = {"factor": 8.0, "after": 2, "window": 10}
RATE = {"learning_rate": 1e-2, "warmup_steps": 2}

RUNS: dict[str, dict[str, Any]] = {
    "bf16 averages": {"optimiser": RATE | {"name": "adamw-bf16"}},
    "8-bit averages": {"optimiser": RATE | {"name": "adamw-8bit"}},
    "8-bit averages of bfloat16 weights": {
        "optimiser": RATE | {"name": "adamw-8bit"},
        "precision": "bfloat16-pure",
        "rounding": "stochastic",
    },
    "Muon, experts, z-losses": {
        "model": EXPERTS,
        "optimiser": RATE | {"name": "muon"},
        "z_loss": 1e-3,
        "router_z_loss": 1e-2,
        "micro_batch_tokens": 48,
    },
    "μP, adaptive power schedule": {
        "optimiser": RATE
        | {
            "mup": {"base_width": 16},
            "adaptive": True,
            "schedule": "power",
            "final_learning_rate": 1e-4,
            "decay": {"fraction": 0.3},
        }
    },
    "pure bfloat16, stochastic": {"precision": "bfloat16-pure", "rounding": "stochastic"},
    "pure bfloat16, Kahan": {"precision": "bfloat16-pure", "rounding": "kahan"},
    "spikes skipped": {"steps": 9, "spikes": RULE | {"rule": "skip"}},
    "spikes rolled back": {"steps": 9, "spikes": RULE | {"rule": "rollback", "return_every": 3}},
}


def run(folder: Path, tokens: Path, configuration: PretrainConfiguration, **options: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokens.parent / "tokenizer"
    return pretrain(
        configuration, tokens=tokens, tokenizer=tokenizer, weights=None, folder=folder, name="base", **options
    )


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def assert_same_bits(first: Path, second: Path) -> None:
    one, two = tensors(first), tensors(second)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def poison(batches: set[int], factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply the loss of these global batches."""
    indices, genuine = Order.indices, NextToken.loss
    current = 0

    def note(self: Order, step: int, *arguments: Any) -> list[int]:
        nonlocal current
        current = step
        return indices(self, step, *arguments)

    def loss(self: NextToken, decoder: Any, hidden_BTD: Any, batch: Any) -> Loss:
        found = genuine(self, decoder, hidden_BTD, batch)
        return Loss(found.total * factor, found.nats * factor, *found[2:]) if current in batches else found

    monkeypatch.setattr(Order, "indices", note)
    monkeypatch.setattr(NextToken, "loss", loss)


@pytest.mark.parametrize("kill_at", [1, 4, 5])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_and_resumed_ends_in_the_same_bits(
    name: str, kill_at: int, tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = settings(**RUNS[name], log_every=4)
    poison({4, 6}, 50.0 if "spikes" in name else 1.0, monkeypatch)
    run(tmp_path / "undisturbed", tokens, configuration)
    with killed_at_update(kill_at + 1):
        run(tmp_path / "killed", tokens, configuration)
    run(tmp_path / "killed", tokens, configuration)
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "killed")
    ignored = {"seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}
    lines = [
        [{key: value for key, value in line.items() if key not in ignored} for line in read_metrics(tmp_path / folder)]
        for folder in ("undisturbed", "killed")
    ]
    assert lines[0] == lines[1]
    if "spikes" in name:
        assert lines[0][-1]["spikes"] == 2


def without_batches(batches: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The order as if these batches were not in it."""
    genuine = Order.indices

    def indices(self: Order, step: int, *arguments: Any) -> list[int]:
        for batch in sorted(batches):
            step += batch <= step
        return genuine(self, step, *arguments)

    monkeypatch.setattr(Order, "indices", indices)


@pytest.mark.parametrize("factor", [50.0, float("nan")])
def test_a_skipped_step_leaves_no_trace_in_the_weights(
    factor: float, tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    configuration = settings(steps=8, spikes=RULE | {"rule": "skip"})
    poison({4}, factor, monkeypatch)
    run(tmp_path / "first", tokens, configuration)
    monkeypatch.undo()
    assert "spike at step 5" in capfd.readouterr().err
    poison({4}, 700.0, monkeypatch)
    run(tmp_path / "second", tokens, configuration)
    assert_same_bits(tmp_path / "first", tmp_path / "second")
    lines = read_metrics(tmp_path / "first")
    assert [line["spikes"] for line in lines] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [line["step"] for line in lines if line["loss"] is None] == [5]
    (spike,) = [json.loads(line) for line in (tmp_path / "first" / "logs" / "spikes.jsonl").read_text().splitlines()]
    assert (spike["step"], spike["batch"], spike["rule"]) == (5, 4, "skip")
    assert spike["median_loss"] > 0


@pytest.mark.parametrize(("return_every", "passed"), [(2, {4}), (3, {3, 4}), (8, {0, 1, 2, 3, 4})])
def test_a_rollback_is_a_run_that_never_had_those_batches(
    return_every: int, passed: set[int], tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spikes = RULE | {"rule": "rollback", "return_every": return_every}
    poison({4}, 50.0, monkeypatch)
    run(tmp_path / "rolled", tokens, settings(steps=7, spikes=spikes, keep_checkpoints=1, checkpoint_every=1))
    monkeypatch.undo()
    without_batches(passed, monkeypatch)
    run(tmp_path / "without", tokens, settings(steps=7))
    assert_same_bits(tmp_path / "rolled", tmp_path / "without")
    rolled, without = read_metrics(tmp_path / "rolled"), read_metrics(tmp_path / "without")
    assert [line["loss"] for line in rolled] == [line["loss"] for line in without]
    assert rolled[-1]["spikes"] == 1


class Told:
    """A probe that finds what it is told to, and notes how large the embedding was."""

    name = "told"
    every = 1

    def __init__(self, *values: float) -> None:
        self.values = iter(values)
        self.norms: list[float] = []

    def measure(self, decoder: Decoder, step: int) -> Mapping[str, float]:
        self.norms.append(decoder.embedding.weight.norm().item())
        return {"value": next(self.values)}


def test_the_best_of_what_a_rollback_undoes_is_not_kept(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison({5}, 50.0, monkeypatch)
    probe = Told(0.5, 0.4, 0.3, 0.2, 0.1, *[0.9] * 5)  # five steps, then back to the third and five steps more
    configuration = settings(
        steps=8, keep_best={"metric": "told/value"}, spikes=RULE | {"rule": "rollback", "return_every": 3}
    )
    summary = run(tmp_path, tokens, configuration, probes=[probe])
    assert (summary["best_step"], summary["best"]) == (3, 0.3)
    best = tensors(tmp_path / "best")["model.embed_tokens.weight"]
    assert best.norm().item() == pytest.approx(probe.norms[2], rel=1e-6)
    assert len(set(probe.norms[:5])) == 5


def test_points_of_return_are_refused_where_nothing_returns() -> None:
    with pytest.raises(ValueError, match="return_every belongs to rule: rollback"):
        settings(spikes=RULE | {"rule": "skip", "return_every": 50})


def test_a_spike_met_again_after_a_restart_stands_there_once_though_other_ranks_round_otherwise(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    rule = SpikeRule(SpikeConfiguration(rule="skip"), tmp_path)
    for loss in (265.8, 265.80002):
        position = Position(threads=1, data="", step=4, batch=4)
        rule.note(position, StepResult(loss, 0.0, 1.0, 0.0, 0.0, 0.0, gradient_norm=1.0))
    (spike,) = rule.path.read_text().splitlines()
    assert json.loads(spike)["loss"] == 265.8


def test_too_many_spikes_stop_the_run(tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison({3, 4, 5}, 50.0, monkeypatch)
    with pytest.raises(UserError, match="the spike number 3") as caught:
        run(tmp_path, tokens, settings(steps=8, spikes=RULE | {"rule": "skip", "most": 2}))
    assert caught.value.where == "spikes.most"


def test_without_a_rule_a_loss_that_is_no_number_stops_the_run(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison({4}, float("nan"), monkeypatch)
    with pytest.raises(UserError, match="the loss of step 5 is nan"):
        run(tmp_path, tokens, settings(steps=8))
