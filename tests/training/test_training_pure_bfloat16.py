"""Weights in bfloat16 alone: with either way of rounding, learning goes on where rounding to nearest stands still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_training import settings
from vernacular.training import trainer
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.pretrain import pretrain

# Steps of 1e-5 on weights of about 0.02, whose last bit is worth about 1e-4.
SMALL = {
    "steps": 60,
    "log_every": 60,
    "optimiser": {"learning_rate": 2e-5, "schedule": "constant", "weight_decay": 0.0},
}


def final_loss(folder: Path, tokens: Path, **changes: Any) -> float:
    folder.mkdir()
    tokenizer = tokens.parent / "tokenizer"
    pretrain(settings(**SMALL | changes), tokens=tokens, tokenizer=tokenizer, weights=None, folder=folder, name="base")
    return float(read_metrics(folder)[-1]["heldout_loss"])


def test_learning_goes_on_below_the_last_bit(tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = final_loss(tmp_path / "start", tokens, optimiser={"learning_rate": 1e-12})
    exact = start - final_loss(tmp_path / "float32", tokens)
    learned = {
        rounding: start - final_loss(tmp_path / rounding, tokens, precision="bfloat16-pure", rounding=rounding)
        for rounding in ("stochastic", "kahan")
    }
    genuine = trainer.build_optimiser

    def to_nearest(*arguments: Any, **options: Any) -> torch.optim.Optimizer:
        return genuine(*arguments, **options | {"rounding": "nearest"})

    monkeypatch.setattr(trainer, "build_optimiser", to_nearest)
    stuck = start - final_loss(tmp_path / "nearest", tokens, precision="bfloat16-pure", rounding="kahan")
    assert exact > 0
    assert learned["kahan"] == pytest.approx(exact, rel=0.1)
    assert learned["stochastic"] == pytest.approx(exact, rel=0.2)
    assert stuck < 0.6 * exact


def test_gradients_add_up_in_float32(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.dtype, torch.dtype]] = []
    genuine = trainer.set_learning_rate

    def look(optimiser: torch.optim.Optimizer, rate: float) -> None:
        for group in optimiser.param_groups:
            seen.extend((parameter.dtype, parameter.grad.dtype) for parameter in group["params"])
        genuine(optimiser, rate)

    monkeypatch.setattr(trainer, "set_learning_rate", look)
    final_loss(tmp_path / "run", tokens, precision="bfloat16-pure", rounding="kahan", steps=2, micro_batch_tokens=24)
    assert set(seen) == {(torch.bfloat16, torch.float32)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "bfloat16-pure"}, "belong together"),
        ({"rounding": "kahan"}, "belong together"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changes)
