"""A decoder's weights in the layout that its kernels multiply fastest, and in fewer bits where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from vernacular.foundation.errors import UserError
from vernacular.inference.packed_attention import PackedAttention
from vernacular.inference.packed_block import packed_block
from vernacular.kernels import rows
from vernacular.kernels.experts import PackedExperts
from vernacular.kernels.feed_forward import PackedGatedFeedForward
from vernacular.kernels.linear import QUANTISED, PackedFanOut, PackedLinear
from vernacular.models.attention import Attention, FanOut
from vernacular.models.decoder import Block, Decoder
from vernacular.models.feed_forward import ACTIVATIONS, Experts, GatedFeedForward
from vernacular.models.norm import LayerNorm, RmsNorm
from vernacular.models.weights import StoredWeights, unfilled_decoder


def arithmetic_of(format: str) -> str:
    """The format of a layer that stays as precise as the arithmetic around it."""
    return "bfloat16" if format in QUANTISED else format


def load_packed(folder: Path, format: str) -> Decoder:
    """The decoder of a weights folder, packed: every weight goes from the mapped file into its panels in one pass.

    Peak memory is the packed weights and one block as it is stored. Refused as by `load_decoder`.
    """
    decoder = unfilled_decoder(folder, arithmetic_of(format))
    with StoredWeights(folder, decoder) as stored, torch.no_grad():

        def fill(name: str, module: nn.Module) -> None:
            for part, parameter in module.named_parameters(prefix=name):
                if part in stored:  # a tied head is the table, which is there
                    parameter.data = stored.read(part).to(parameter.dtype)

        decoder.embedding.weight.copy_(stored.read("embedding.weight"))
        pack(decoder, format, fill)
    return decoder


def _is_filled(_name: str, _module: nn.Module) -> None:
    """Of a decoder whose weights are there."""


def pack(decoder: Decoder, format: str, fill: Callable[[str, nn.Module], None] = _is_filled) -> None:
    """Replace every product with weights by a packed one; each weight is freed as soon as it is packed.

    A weight shared with the embedding table stays there as well. Routers are never quantised: they are a thousandth of
    the weights, and who answers is decided by small differences.

    Args:
        decoder: on the CPU, in the activations' precision: float32, or bfloat16 for every other format.
        format: float32, bfloat16, int8 (a scale per output) or int4 (a scale per output and group of inputs; the head
            takes int8).
        fill: called with the name of a part of the decoder and the part, before it is packed, to read its weights.
    """
    for layer, block in enumerate(decoder.blocks):
        fill(f"blocks.{layer}", block)
        _pack_below(block, format)
        if isinstance(block, Block):
            decoder.blocks[layer] = packed_block(block)
    for name, of_part in (("final_norm", format), ("head", "int8" if format == "int4" else format)):
        fill(name, getattr(decoder, name))
        _pack_child(decoder, name, of_part)


def _pack_below(module: nn.Module, format: str) -> None:
    for name, child in list(module.named_children()):
        if not _pack_child(module, name, arithmetic_of(format) if name == "router" else format):
            _pack_below(child, format)


def _pack_child(module: nn.Module, name: str, format: str) -> bool:
    """Replace a child by its packed form; False where it holds nothing to pack itself."""
    packed = _packed(getattr(module, name), format)
    if packed is not None:
        setattr(module, name, packed)
    return packed is not None


def _packed(module: nn.Module, format: str) -> nn.Module | None:
    """What stands for the module from now on; None where it holds nothing to pack itself."""
    if isinstance(module, Attention):
        return PackedAttention(module, format)
    if isinstance(module, FanOut):
        return PackedFanOut([linear.weight for linear in module.linears()], format)
    if isinstance(module, GatedFeedForward) and module.gate.name == "silu":
        gate, up = (linear.weight for linear in module.project.linears())
        return PackedGatedFeedForward(gate, up, module.down.weight, format)
    if isinstance(module, nn.Linear):
        return PackedLinear(module.weight, format)
    if isinstance(module, Experts):
        if module.activation is not ACTIVATIONS["silu"]:
            raise UserError(
                "the CPU kernels know experts with the activation silu only",
                where="activation",
                fix="choose PyTorch's own kernels with `--kernels torch`",
            )
        return PackedExperts(module.input, module.output, format)
    if isinstance(module, RmsNorm | LayerNorm):
        return rows.PackedNorm(module.weight, module.epsilon, centred=isinstance(module, LayerNorm))
    return None
