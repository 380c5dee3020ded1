"""The memory a plan predicts: against the decoder's own tensors, and part by part as the layout changes."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from vernacular.lifecycle.memory import averages_size, block_activations, training_memory
from vernacular.models.configuration import DecoderConfiguration, ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.parallel.activation import apply_checkpointing
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.optimisers.optimiser import build_optimiser

SHAPES = {
    "gated": ModelShape(hidden_size=64, num_layers=2, num_heads=4, num_key_value_heads=2, intermediate_size=192),
    "plain": ModelShape(family="mpt", hidden_size=64, num_layers=2, num_heads=4, intermediate_size=256),
    "experts": ModelShape(
        family="granitemoe",
        hidden_size=64,
        num_layers=2,
        num_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        num_experts=8,
        experts_per_token=4,
    ),
}


def decoder_of(name: str, layers: int = 2) -> DecoderConfiguration:
    return configure(SHAPES[name].model_copy(update={"num_layers": layers}), vocab_size=320, max_positions=128)


def settings(**more: Any) -> TrainingConfiguration:
    optimiser = {"learning_rate": 0.001, **more.pop("optimiser", {})}
    return TrainingConfiguration(
        **{"steps": 1, "sequence_length": 64, "batch_tokens": 1024, "optimiser": optimiser, **more}
    )


def kept_bytes(configuration: DecoderConfiguration, *, precision: str, checkpointing: str, tokens: int = 128) -> int:
    """Bytes of different tensors, weights left out, that a forward pass of the decoder keeps for its backward pass."""
    torch.manual_seed(0)
    decoder = Decoder(configuration)
    decoder.initialise(0)
    apply_checkpointing(decoder, checkpointing)  # type: ignore[arg-type]
    weights = {parameter.untyped_storage().data_ptr() for parameter in decoder.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor
        return tensor

    ids = torch.randint(configuration.vocab_size, (1, tokens))
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        hidden = decoder(ids)
    casts = sum(parameter.numel() * 2 for parameter in decoder.blocks.parameters() if parameter.dim() > 1)
    found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert hidden.shape[1] == tokens
    return found - (casts if precision == "bfloat16" and checkpointing == "none" else 0)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_activations_of_a_block_are_those_it_keeps(name: str, precision: str, checkpointing: str) -> None:
    tokens = 128
    three, two = (
        kept_bytes(decoder_of(name, layers), precision=precision, checkpointing=checkpointing) for layers in (3, 2)
    )
    predicted = block_activations(decoder_of(name), settings(precision=precision), checkpointing)
    # On a CPU the RMS norm also keeps what it returns, in float32.
    assert 0.95 < (three - two) / tokens / predicted < 1.25


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_selective_checkpointing_keeps_the_products_results(name: str, precision: str) -> None:
    tokens = 256

    def left(layers: int) -> int:
        """Bytes allocated in a forward pass and not freed: what selective checkpointing keeps, no hook is told of."""
        torch.manual_seed(0)
        decoder = Decoder(decoder_of(name, layers))
        decoder.initialise(0)
        apply_checkpointing(decoder, "selective")
        ids = torch.randint(320, (1, tokens))
        gc.collect()  # what an earlier decoder leaves in circles would be freed in between, and be counted as less
        gc.disable()
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
            profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled,
        ):
            hidden = decoder(ids)
        gc.enable()
        assert hidden.requires_grad
        casts = sum(weight.numel() * 2 for weight in decoder.blocks.parameters() if weight.dim() > 1)
        found = sum(event.self_cpu_memory_usage for event in profiled.key_averages())
        return found - (casts if precision == "bfloat16" else 0)

    predicted = block_activations(decoder_of(name), settings(precision=precision), "selective")
    assert 0.8 < (left(3) - left(2)) / tokens / predicted < 1.1


@pytest.mark.parametrize(
    ("name", "size"), [("adamw", 8.0), ("adamw-bf16", 4.0), ("muon", None)], ids=["adamw", "adamw-bf16", "muon"]
)
def test_averages_are_as_large_as_the_optimisers(name: str, size: float | None) -> None:
    training = settings(optimiser={"name": name})
    for shape in (decoder_of("gated"), decoder_of("experts")):
        decoder = Decoder(shape)
        decoder.initialise(0)
        optimiser = build_optimiser(decoder, training.optimiser)
        for parameter in decoder.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimiser.step()
        state = [value for values in optimiser.state.values() for value in values.values()]
        found = sum(value.numel() * value.element_size() for value in state if torch.is_tensor(value) and value.dim())
        assert found / shape.num_parameters() == pytest.approx(averages_size(training, shape), rel=0.002)
        assert size is None or averages_size(training, shape) == size


def parts(shape: DecoderConfiguration, world: int, training: TrainingConfiguration, **parallel: Any) -> Any:
    configuration = ParallelConfiguration(**parallel)
    return training_memory(shape, training, configuration, configuration.sizes(world), 1)


def test_one_device_holds_everything() -> None:
    shape = decoder_of("gated")
    memory = parts(shape, 1, settings())
    count = shape.num_parameters()
    assert (memory.weights, memory.gradients, memory.optimiser, memory.gathered) == (4 * count, 4 * count, 8 * count, 0)
    assert memory.logits == 64 * 320 * 8, "scores and their gradients of a row of 64 tokens"


def test_precision_and_optimiser_change_the_bytes_of_a_weight() -> None:
    shape = decoder_of("gated")
    count = shape.num_parameters()
    pure = {"precision": "bfloat16-pure"}
    assert parts(shape, 1, settings(**pure, rounding="stochastic")).weights == 2 * count
    assert parts(shape, 1, settings(**pure, rounding="kahan")).weights == 4 * count
    assert parts(shape, 1, settings(optimiser={"name": "adamw-8bit"})).optimiser == pytest.approx(
        2.03 * count, rel=0.01
    )


def test_each_way_divides_what_it_says() -> None:
    shape, training = decoder_of("gated"), settings()
    alone = parts(shape, 1, training)
    third, first = (parts(shape, 4, training, zero_stage=stage) for stage in (3, 1))
    assert third.weights == alone.weights / 4
    assert third.gradients == alone.gradients / 4
    assert first.optimiser == third.optimiser == alone.optimiser / 4
    assert first.gradients > alone.gradients, "whole, and its share"
    assert first.gathered == pytest.approx(alone.weights), "all weights are whole for a time"
    assert parts(shape, 2, training, context=2).activations == alone.activations / 2
    assert parts(shape, 2, training, tensor=2).activations == alone.activations / 2
    assert parts(shape, 4, training, data_replicate=4).weights == alone.weights, "replicas share nothing"
    levels = [parts(shape, 1, training, activation_checkpointing=level).activations for level in ("none", "full")]
    assert levels[0] > levels[1]
