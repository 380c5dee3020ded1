"""Linear layers with weights of 8 or 4 bits by PyTorch's own kernels: for a GPU, and for `--kernels torch`.

The integers and scales are those of the native kernels, so the same numbers are multiplied wherever a model runs; the
arithmetic is bfloat16's. The two products are those of gpt-fast (https://github.com/meta-pytorch/gpt-fast).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vernacular.foundation.errors import UserError
from vernacular.kernels.linear import group_size, quantise
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder

_INNER_TILES = 8
"""Blocks of 16 inputs that a GPU's 4-bit layout holds together."""


def check_can_be_quantised(configuration: DecoderConfiguration, format: str) -> None:
    """Refuse experts, which PyTorch multiplies in whole floats only."""
    if configuration.num_experts:
        raise UserError(
            f"experts in {format} need the native kernels, which run on a CPU",
            where="dtype",
            fix="choose dtype bfloat16, or device cpu and kernels native",
        )


def quantise_weights(decoder: Decoder, format: str) -> None:
    """Replace every linear layer but routers by one of 8 or 4 bits; the output head takes 8.

    Args:
        decoder: in bfloat16, on its device.
        format: int8 or int4.

    Raises:
        UserError: a width that the 4-bit product does not take.
    """
    _quantise_below(decoder.blocks, format)
    decoder.head = EightBitLinear(decoder.head.weight)  # type: ignore[assignment]


def _quantise_below(module: nn.Module, format: str) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) and name != "router":
            linear = EightBitLinear(child.weight) if format == "int8" else FourBitLinear(child.weight)
            setattr(module, name, linear)
        else:
            _quantise_below(child, format)


class EightBitLinear(nn.Module):
    """`(x · integersᵀ) · scale`, a scale per output."""

    integers_NK: Tensor
    scales_N: Tensor

    def __init__(self, weight_NK: Tensor) -> None:
        super().__init__()
        quantised = quantise(weight_NK, "int8")
        self.register_buffer("integers_NK", quantised.integers_NK[:, : weight_NK.shape[1]].contiguous())
        self.register_buffer("scales_N", quantised.scales.to(weight_NK.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] to [..., N]."""
        return functional.linear(x, self.integers_NK.to(x.dtype)) * self.scales_N


class FourBitLinear(nn.Module):
    """`x · (integers · scale)ᵀ`, a scale per output and group of inputs."""

    packed: Tensor
    scales_and_zeros_GN2: Tensor

    def __init__(self, weight_NK: Tensor) -> None:
        super().__init__()
        outputs, width = weight_NK.shape
        self._group = group_size(width)
        multiple = 16 * _INNER_TILES if weight_NK.is_cuda else self._group
        if width % multiple or outputs % 16:
            raise UserError(
                f"PyTorch's 4-bit product takes widths of whole {multiple}s and outputs of whole 16s; "
                f"this layer has {width} and {outputs}",
                where="dtype",
                fix="choose dtype int8",
            )
        quantised = quantise(weight_NK, "int4")
        # Its numbers run from 0 to 15 and stand for (number - 8) · scale + zero.
        numbers_NK = (quantised.integers_NK + 8).to(torch.int32)
        if weight_NK.is_cuda:
            pairs = (numbers_NK[:, ::2] << 4 | numbers_NK[:, 1::2]).to(torch.uint8)
            packed = torch._convert_weight_to_int4pack(pairs, _INNER_TILES)
        else:
            packed = torch._convert_weight_to_int4pack_for_cpu(numbers_NK, 1)
        scales_GN = quantised.scales.t().to(weight_NK.dtype)
        self.register_buffer("packed", packed)
        self.register_buffer(
            "scales_and_zeros_GN2", torch.stack((scales_GN, torch.zeros_like(scales_GN)), dim=-1).contiguous()
        )
        self._outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] to [..., N]."""
        multiply = torch._weight_int4pack_mm if x.is_cuda else torch._weight_int4pack_mm_for_cpu
        rows_RK = x.reshape(-1, x.shape[-1])
        return multiply(rows_RK, self.packed, self._group, self.scales_and_zeros_GN2).view(*x.shape[:-1], self._outputs)
