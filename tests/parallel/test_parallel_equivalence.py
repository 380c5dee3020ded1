"""However a model is spread, it follows the run of one process: losses, gradient norms and final weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tiny_parallel
from crew import Crew
from tiny_parallel import Curve

# In float32. A loss or a norm is a sum of thousands of terms in another order; AdamW divides a weight's gradient by its
# own size, so the rounding of a small gradient shows in the weight.
LOSS, NORM, WEIGHT = 1e-6, 5e-6, 5e-5

TWO: list[tuple[str, int, dict[str, Any]]] = [
    # model, micro-batches, settings
    ("dense", 1, {}),
    ("dense", 2, {"zero_stage": 1}),
    ("dense", 2, {"zero_stage": 2}),
    ("mixture", 2, {"zero_stage": 3}),
    ("tied", 1, {"zero_stage": 3}),
    ("dense", 1, {"tensor": 2, "sequence_parallel": False}),
    ("tied", 2, {"tensor": 2}),
    ("alibi", 1, {"tensor": 2}),
    ("mixture", 1, {"tensor": 2}),
    ("mixture", 1, {"expert": 2}),
    ("dense", 4, {"pipeline": 2}),
    ("mixture", 4, {"pipeline": 2, "schedule": "gpipe"}),
    ("dense", 1, {"context": 2}),
    ("alibi", 1, {"context": 2}),
    ("windowed", 1, {"context": 2}),
    ("mixture", 2, {"context": 2, "expert": 2}),
    ("dense", 1, {"activation_checkpointing": "full"}),
    ("mixture", 1, {"expert": 2, "activation_checkpointing": "selective"}),
]
FOUR: list[tuple[str, int, dict[str, Any]]] = [
    ("dense", 1, {}),
    ("mixture", 1, {}),
    ("dense", 1, {"data_replicate": 2}),
    ("dense", 1, {"data_replicate": 4, "data_shard": 1}),
    ("dense", 1, {"tensor": 2}),
    ("dense", 2, {"tensor": 2, "zero_stage": 1}),
    ("mixture", 1, {"tensor": 2, "sequence_parallel": False, "expert": 2}),
    ("mixture", 1, {"expert": 2}),
    ("mixture", 1, {"expert": 4, "tensor": 2, "activation_checkpointing": "full"}),
    ("mixture", 1, {"expert": 2, "data_replicate": 2}),
    ("dense", 2, {"pipeline": 2}),
    ("dense", 2, {"pipeline": 2, "tensor": 2}),
    ("mixture", 2, {"pipeline": 2, "expert": 2, "sequence_parallel": False}),
    ("tied", 1, {"context": 2, "tensor": 2}),
    ("alibi", 1, {"context": 4}),
]

Alone = Callable[[str], Curve]
Hire = Callable[[int], Crew]


def name(case: tuple[str, int, dict[str, Any]]) -> str:
    model, micro_batches, settings = case
    return "-".join([model, f"{micro_batches}x", *(f"{key}={value}" for key, value in settings.items())])


def check(curves: list[Curve], reference: Curve) -> None:
    loss, norm, weight = tiny_parallel.differences(curves[0], reference)
    assert loss < LOSS
    assert norm < NORM
    assert weight < WEIGHT
    for curve in curves[1:]:
        assert (curve.losses, curve.norms) == (curves[0].losses, curves[0].norms)


@pytest.mark.parametrize("model", ["dense", "mixture", "alibi"])
def test_one_process_with_four_micro_batches_follows_the_whole_batch(model: str, alone: Alone) -> None:
    check([tiny_parallel.train_spread(model, {}, 4)], alone(model))


@pytest.mark.parametrize("mode", ["selective", "full"])
def test_checkpointed_activations_give_the_very_same_run(mode: str) -> None:
    kept = tiny_parallel.train_spread("dense", {})
    again = tiny_parallel.train_spread("dense", {"activation_checkpointing": mode})
    assert again.losses == kept.losses
    assert all(again.weights[name].equal(kept.weights[name]) for name in kept.weights)


@pytest.mark.distributed
@pytest.mark.parametrize("case", TWO, ids=name)
def test_two_ranks_follow_one(case: tuple[str, int, dict[str, Any]], alone: Alone, hire: Hire) -> None:
    model, micro_batches, settings = case
    check(hire(2).run(tiny_parallel.train_spread, model, settings, micro_batches), alone(model))


@pytest.mark.distributed
@pytest.mark.parametrize("case", FOUR, ids=name)
def test_four_ranks_follow_one(case: tuple[str, int, dict[str, Any]], alone: Alone, hire: Hire) -> None:
    model, micro_batches, settings = case
    check(hire(4).run(tiny_parallel.train_spread, model, settings, micro_batches), alone(model))


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("model", "settings"), [("dense", {"tensor": 2}), ("mixture", {"expert": 2, "activation_checkpointing": "full"})]
)
def test_the_cpu_kernels_follow_pytorch_when_spread(
    model: str, settings: dict[str, Any], alone: Alone, hire: Hire
) -> None:
    curves = hire(2).run(tiny_parallel.train_with_kernels, model, settings)
    check(curves, alone(model))


@pytest.mark.distributed
def test_weights_gathered_in_bfloat16_are_those_that_products_round_to(hire: Hire) -> None:
    narrow = hire(2).run(tiny_parallel.train_narrow, "dense", {"gather_dtype": "bfloat16"})
    wide = hire(2).run(tiny_parallel.train_narrow, "dense", {})
    assert narrow[0].losses == pytest.approx(wide[0].losses, rel=1e-4)


@pytest.mark.distributed
def test_scores_without_gradients_are_those_of_one_process(hire: Hire) -> None:
    (expected,) = {tiny_parallel.score("dense", {})}
    for settings in ({}, {"zero_stage": 1}, {"tensor": 2}, {"context": 2}, {"pipeline": 2}):
        assert hire(2).run(tiny_parallel.score, "dense", settings) == pytest.approx([expected] * 2, rel=1e-6)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("dense", {}),
        ("dense", {"tensor": 2}),
        ("dense", {"activation_checkpointing": "full"}),
        ("mixture", {"expert": 2}),
    ],
)
def test_compiled_blocks_follow_eager_ones(model: str, settings: dict[str, Any], alone: Alone, hire: Hire) -> None:
    curves = hire(2).run(tiny_parallel.train_spread, model, {**settings, "compile": True})
    loss, norm, weight = tiny_parallel.differences(curves[0], alone(model))
    # Fused kernels round in another order at every step.
    assert (loss < 5e-6, norm < 5e-5, weight < 5e-4) == (True, True, True)
