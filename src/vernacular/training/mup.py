"""Maximal update parametrisation: the initial weights of a width, and a check of how large activations grow.

What is scaled, with m = hidden_size / base_width (arXiv 2203.03466, table 8; Granite 3.0):

    weights                      initial deviation           AdamW's rate
    embedding, output head       initializer_range           rate
    matrices inside the blocks   initializer_range / √m      rate / m

The forward pass has its part in the model's configuration: `attention_multiplier` 1 / head_dim, `logits_scaling` m.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.training.optimisation import MupConfiguration, OptimiserConfiguration
from vernacular.training.optimisers.groups import INTERNAL, roles
from vernacular.training.optimisers.optimiser import build_optimiser, set_learning_rate


@torch.no_grad()
def initialise(decoder: Decoder, seed: int, mup: MupConfiguration | None) -> None:
    """Give a new decoder the weights that `draw` gives."""
    for parameter, (_, value) in zip(decoder.parameters(), draw(decoder, seed, mup), strict=True):
        parameter.copy_(value)


def draw(decoder: Decoder, seed: int, mup: MupConfiguration | None) -> Iterator[tuple[str, Tensor]]:
    """A new decoder's weights, as `Decoder.draw`; with μP every matrix inside the blocks is drawn by its width alone.

    Depth is then `residual_multiplier`'s business: nothing is divided by the root of the number of layers.
    """
    values = decoder.draw(seed)
    if mup is None:
        return values
    deviation = decoder.configuration.initializer_range / math.sqrt(decoder.configuration.hidden_size / mup.base_width)
    internal = {name for name, role, _ in roles(decoder) if role in INTERNAL}
    return _redrawn(values, internal, deviation, torch.Generator().manual_seed(seed + 1))


def _redrawn(
    values: Iterator[tuple[str, Tensor]], names: Collection[str], deviation: float, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    for name, value in values:
        yield name, value.normal_(std=deviation, generator=generator) if name in names else value


class Coordinate(NamedTuple):
    """The mean absolute value of what a part of the decoder gives, at a width, after a number of steps."""

    part: str
    width: int
    step: int
    size: float


def coordinate_check(
    shape_of: Callable[[int], DecoderConfiguration],
    widths: Sequence[int],
    optimiser: OptimiserConfiguration,
    *,
    steps: int = 5,
    seed: int = 0,
) -> list[Coordinate]:
    """Train a decoder of each width on the same tokens; how large do its activations become?

    Under μP the sizes after a few steps do not depend on the width; without it they grow (arXiv 2203.03466, app. D.1).

    Args:
        shape_of: the decoder's configuration at a width.
        widths: the widths to compare.
        optimiser: rate and, with `mup`, its division by the width. The rate is constant, whatever the schedule.
        steps: optimiser steps on one batch of random tokens, 8 rows of 32.
        seed: of the weights and of the tokens.
    """
    found: list[Coordinate] = []
    for width in widths:
        configuration = shape_of(width)
        decoder = Decoder(configuration)
        initialise(decoder, seed, optimiser.mup)
        generator = torch.Generator().manual_seed(seed)
        ids_BT = torch.randint(configuration.vocab_size, (8, 33), generator=generator)
        rule = build_optimiser(decoder, optimiser)
        set_learning_rate(rule, optimiser.learning_rate)
        for step in range(steps + 1):
            sizes: dict[str, float] = {}
            with _sizes(decoder, sizes):
                logits_BTV = decoder.logits(decoder(ids_BT[:, :-1]))
            sizes["logits"] = logits_BTV.abs().mean().item()
            found += [Coordinate(part, width, step, size) for part, size in sizes.items()]
            functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten()).backward()
            rule.step()
            rule.zero_grad()
    return found


@contextmanager
def _sizes(decoder: Decoder, sizes: dict[str, float]) -> Iterator[None]:
    """Note the size of what each block, its attention and its feed-forward give while inside."""

    def listen(part: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
            sizes[part] = output.detach().abs().mean().item()

        return note

    hooks = []
    for layer, block in enumerate(decoder.blocks):
        parts = {"block": block, "attention": block.get_submodule("attention")}
        parts["feed-forward"] = block.get_submodule("feed_forward")
        hooks += [module.register_forward_hook(listen(f"{part} {layer}")) for part, module in parts.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
