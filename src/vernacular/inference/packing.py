"""A decoder's weights in the layout that its kernels multiply fastest, and in fewer bits where that is asked for."""

from __future__ import annotations

from torch import nn

from vernacular.foundation.errors import UserError
from vernacular.inference.packed_attention import PackedAttention
from vernacular.kernels import rows
from vernacular.kernels.experts import PackedExperts
from vernacular.kernels.linear import QUANTISED, PackedFanOut, PackedLinear
from vernacular.models.attention import Attention, FanOut
from vernacular.models.decoder import Decoder
from vernacular.models.feed_forward import ACTIVATIONS, Experts, Gate
from vernacular.models.norm import LayerNorm, RmsNorm


def arithmetic_of(format: str) -> str:
    """The format of a layer that stays as precise as the arithmetic around it."""
    return "bfloat16" if format in QUANTISED else format


def pack(decoder: Decoder, format: str) -> None:
    """Replace every product with weights by a packed one; each weight is freed as soon as it is packed.

    A weight shared with the embedding table stays there as well. Routers are never quantised: they are a thousandth of
    the weights, and who answers is decided by small differences.

    Args:
        decoder: on the CPU, in the activations' precision: float32, or bfloat16 for every other format.
        format: float32, bfloat16, int8 (a scale per output) or int4 (a scale per output and group of inputs; the head
            takes int8).
    """
    _pack_below(decoder.blocks, format)
    _pack_child(decoder, "final_norm", format)
    _pack_child(decoder, "head", "int8" if format == "int4" else format)


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
    if isinstance(module, Gate) and module.name == "silu":
        return rows.PackedGate()
    return None
