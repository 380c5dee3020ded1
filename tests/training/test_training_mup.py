"""μP: initial weights by the width, and a coordinate check."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.models.weights import hollow_decoder
from vernacular.training.mup import coordinate_check, draw, initialise
from vernacular.training.optimisation import MupConfiguration, OptimiserConfiguration
from vernacular.training.optimisers.groups import roles

WIDTHS = (64, 128, 256)
BASE = 64


def shape(width: int, *, is_mup: bool, **changes: Any) -> DecoderConfiguration:
    """A decoder that grows by heads, of Granite's multipliers."""
    return DecoderConfiguration(
        family="granite",
        hidden_size=width,
        num_layers=2,
        num_heads=width // 16,
        num_key_value_heads=width // 16,
        head_dim=16,
        intermediate_size=2 * width,
        vocab_size=96,
        max_positions=64,
        initializer_range=0.1,
        attention_multiplier=1 / 16 if is_mup else 0.25,
        logits_scaling=width / BASE if is_mup else 1.0,
        **changes,
    )


def growth(*, is_mup: bool) -> dict[str, float]:
    """For each part, the exponent of the width in its size after five steps."""
    optimiser = OptimiserConfiguration(learning_rate=0.01, mup=MupConfiguration(base_width=BASE) if is_mup else None)
    found = coordinate_check(lambda width: shape(width, is_mup=is_mup), WIDTHS, optimiser)
    sizes = {(one.part, one.width): one.size for one in found if one.step == 5}
    parts = {one.part for one in found}
    return {part: math.log(sizes[part, 256] / sizes[part, 64]) / math.log(256 / 64) for part in parts}


def test_activations_keep_their_size_over_the_width_with_mup_and_grow_without() -> None:
    with_mup, without = growth(is_mup=True), growth(is_mup=False)
    assert len(with_mup) == 7, "two blocks, their attention and feed-forward, the logits"
    # The logits of random weights are smaller the wider; those that are learned are not.
    assert -0.4 < with_mup.pop("logits") < 0.1
    assert max(abs(exponent) for exponent in with_mup.values()) < 0.25, with_mup
    assert min(without.values()) > 0.4, without


@pytest.mark.parametrize("mup", [None, MupConfiguration(base_width=64)])
def test_a_decoder_without_storage_is_drawn_the_same_weights(mup: MupConfiguration | None) -> None:
    of_width = shape(128, is_mup=True, num_experts=None)
    decoder, hollow = Decoder(of_width), hollow_decoder(of_width)
    initialise(decoder, 3, mup)
    drawn = dict(draw(hollow, 3, mup))
    assert all(weight.is_meta for weight in hollow.parameters())
    assert drawn.keys() == dict(decoder.named_parameters()).keys()
    assert all(torch.equal(weight, drawn[name]) for name, weight in decoder.named_parameters())


def test_matrices_inside_the_blocks_are_drawn_by_the_width() -> None:
    decoder = Decoder(shape(256, is_mup=True, num_experts=None))
    initialise(decoder, 3, MupConfiguration(base_width=64))
    for name, role, parameter in roles(decoder):
        if role == "norm":
            continue
        expected = 0.1 if role in ("embedding", "head") else 0.05
        assert parameter.std().item() == pytest.approx(expected, rel=0.05), name
