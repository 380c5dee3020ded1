"""What one layout saves, any other loads: every weight and every value of the optimiser, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_parallel
from crew import Crew

STEPS, BEFORE = 4, 2
Hire = Callable[[int], Crew]

CASES: list[tuple[str, tuple[int, dict[str, Any]], tuple[int, dict[str, Any]]]] = [
    ("dense", (4, {}), (1, {})),
    ("dense", (1, {}), (2, {})),
    ("dense", (4, {"data_replicate": 2}), (2, {"zero_stage": 1})),
    ("tied", (1, {}), (2, {"tensor": 2})),
    ("dense", (2, {"tensor": 2}), (1, {})),
    ("dense", (4, {"tensor": 2}), (2, {"context": 2})),
    ("mixture", (4, {"expert": 2}), (1, {})),
    ("mixture", (2, {}), (4, {"expert": 4, "tensor": 2})),
    ("dense", (4, {"pipeline": 2}), (1, {})),
    ("mixture", (1, {}), (2, {"pipeline": 2})),
]


def run(hire: Hire, ranks: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the first rank returns."""
    return function(*arguments) if ranks == 1 else hire(ranks).run(function, *arguments)[0]


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("model", "before", "after"), CASES, ids=lambda value: str(value).translate({ord(c): None for c in "{}'() "})
)
def test_a_run_goes_on_under_another_layout(
    model: str,
    before: tuple[int, dict[str, Any]],
    after: tuple[int, dict[str, Any]],
    hire: Hire,
    tmp_path: Path,
) -> None:
    saved = run(hire, before[0], tiny_parallel.train_and_save, model, before[1], tmp_path, BEFORE)
    loaded, curve = run(hire, after[0], tiny_parallel.load_and_train, model, after[1], tmp_path, BEFORE, STEPS)

    assert loaded.values.keys() == saved.values.keys()
    assert any("exp_avg_sq" in name for name in saved.values)
    for name, value in saved.values.items():
        same = value.equal(loaded.values[name]) if isinstance(value, torch.Tensor) else value == loaded.values[name]
        assert same, name
    whole = tiny_parallel.train_alone(model, steps=STEPS)
    assert curve.losses == pytest.approx(whole.losses[BEFORE:], rel=1e-6)
    assert max(float((curve.weights[name] - weight).abs().max()) for name, weight in whole.weights.items()) < 5e-5


@pytest.mark.distributed
def test_the_same_layout_goes_on_bit_for_bit(hire: Hire, tmp_path: Path) -> None:
    settings = {"tensor": 2}
    hire(4).run(tiny_parallel.train_and_save, "dense", settings, tmp_path, BEFORE)
    _, resumed = hire(4).run(tiny_parallel.load_and_train, "dense", settings, tmp_path, BEFORE, STEPS)[0]
    straight = hire(4).run(tiny_parallel.train_spread, "dense", settings, 2, STEPS)[0]
    assert resumed.losses == straight.losses[BEFORE:]
    assert all(resumed.weights[name].equal(weight) for name, weight in straight.weights.items())


@pytest.mark.distributed
@pytest.mark.parametrize("settings", [{"tensor": 2}, {"expert": 2, "pipeline": 2}], ids=str)
def test_rank_0_gathers_the_whole_decoder(settings: dict[str, Any], hire: Hire) -> None:
    expected = tiny_parallel.make_decoder("mixture").state_dict()
    whole, *others = hire(4).run(tiny_parallel.gather_weights, "mixture", settings)
    assert others == [None] * 3
    assert whole.keys() == expected.keys()
    assert all(whole[name].equal(weight) for name, weight in expected.items())


@pytest.mark.distributed
def test_a_decoder_without_storage_is_filled_from_a_checkpoint_of_weights(hire: Hire, tmp_path: Path) -> None:
    tiny_parallel.save_weights_of("mixture", tmp_path)
    expected = tiny_parallel.make_decoder("mixture").state_dict()
    for weights in hire(4).run(tiny_parallel.fill_from, "mixture", {"expert": 2, "tensor": 2}, tmp_path):
        assert all(weights[name].equal(weight) for name, weight in expected.items())
