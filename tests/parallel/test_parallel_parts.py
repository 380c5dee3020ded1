"""Each way of spreading by itself: what is kept, what is sharded, who answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import parallel_probes
from crew import Crew
from tiny_parallel import make_decoder
from vernacular.foundation.errors import UserError
from vernacular.parallel.apply import spread
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.parallel.mesh import open_mesh
from vernacular.parallel.pipeline import with_loss

Hire = Callable[[int], Crew]


def test_checkpointing_computes_again_what_it_says() -> None:
    products, activations = {}, {}
    for mode in ("none", "selective", "full"):
        products[mode], activations[mode] = parallel_probes.computed_in_a_step(mode)
    assert products["none"] == products["selective"] < products["full"]
    assert activations["none"] < activations["selective"] == activations["full"]


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("stage", "weights_between", "gradients_before_last"),
    [(1, "whole", "none"), (2, "whole", "part"), (3, "part", "part")],
)
def test_a_stage_of_zero_shards_what_it_says(
    stage: int, weights_between: str, gradients_before_last: str, hire: Hire
) -> None:
    for seen in hire(2).run(parallel_probes.what_is_sharded, {"zero_stage": stage}):
        assert seen == {
            "weight between forward and backward": weights_between,
            "gradient before the last micro-batch": gradients_before_last,
            "gradient after it": "part",
            "share of the weights at rest": 0.5,
        }


@pytest.mark.distributed
@pytest.mark.parametrize(("stage", "before_last"), [(1, "none"), (2, "part"), (3, "part")])
def test_a_stage_of_zero_shards_what_it_says_in_a_pipeline_too(stage: int, before_last: str, hire: Hire) -> None:
    settings = {"pipeline": 2, "zero_stage": stage}
    assert hire(4).run(parallel_probes.gradient_in_a_pipeline, settings) == [(before_last, "part")] * 4


@pytest.mark.distributed
@pytest.mark.parametrize("chosen", ["all the first", "only this rank's", "spread"])
def test_no_row_is_dropped_however_lopsided_the_choice(chosen: str, hire: Hire) -> None:
    expected = parallel_probes.answer_alone(chosen, ranks=4)
    divided = hire(4).run(parallel_probes.answer_divided, chosen)
    for rank, (answers, gradient, _) in enumerate(divided):
        torch.testing.assert_close(answers, expected.answers[rank])
        torch.testing.assert_close(gradient, expected.input_gradients[rank])
    torch.testing.assert_close(torch.cat([weights for _, _, weights in divided]), expected.weight_gradient)


def test_a_stages_own_loss_joins_the_gradient() -> None:
    weight = torch.tensor([2.0, 3.0], requires_grad=True)
    hidden = with_loss(5 * weight, weight.square().sum())
    assert hidden.tolist() == [10.0, 15.0]
    hidden.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [5 + 2 * 2.0, 5 + 2 * 3.0]


@pytest.mark.distributed
def test_narrow_weights_are_refused_without_narrow_products(hire: Hire) -> None:
    for refusal in hire(2).run(parallel_probes.refusal_of, {"gather_dtype": "bfloat16"}, 1):
        assert "parallel.gather_dtype" in refusal


@pytest.mark.distributed
def test_a_pipeline_that_cannot_be_filled_is_refused(hire: Hire) -> None:
    for refusal in hire(2).run(parallel_probes.refusal_of, {"pipeline": 2}, 1):
        assert "parallel.pipeline" in refusal
        assert "micro_batch_tokens" in refusal


@pytest.mark.distributed
def test_a_part_of_a_row_without_its_place_is_refused(hire: Hire) -> None:
    for refusal in hire(2).run(parallel_probes.refusal_without_mask):
        assert "parallel.context" in refusal
        assert "mask_B1TS" in refusal


def test_a_model_that_does_not_fit_is_refused_before_it_is_touched() -> None:
    configuration = ParallelConfiguration(float8=True)
    with pytest.raises(UserError, match="CUDA"):
        spread(make_decoder("dense"), configuration, open_mesh(configuration), sequence_length=16)


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("dense", {}),
        ("dense", {"tensor": 2}),
        ("mixture", {"expert": 2, "tensor": 2}),
        ("mixture", {"data_replicate": 2, "expert": 2}),
    ],
    ids=str,
)
def test_a_rank_knows_where_its_values_stand_in_the_whole_weight(
    model: str, settings: dict[str, Any], hire: Hire
) -> None:
    assert hire(4).run(parallel_probes.places_told_wrong, model, settings) == [[]] * 4
