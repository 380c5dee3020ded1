"""How a token's position enters: rotated queries and keys, or a bias on their products."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class RotaryPosition:
    """Rotate-half rotary embedding (arXiv 2104.09864), its angles in float32."""

    def __init__(self, head_dim: int, theta: float) -> None:
        # On the CPU by name: a decoder is built on the meta device before its weights are read.
        exponent = torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu") / head_dim
        self.frequencies = (1.0 / theta**exponent).float()

    def angles(self, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine, and sine with the sign it takes in `rotate`; each float32 [B, 1, T, C]."""
        angles_BTC = positions_BT[..., None].float() * self.frequencies.to(positions_BT.device)
        sine_BTC = angles_BTC.sin()
        cosine_BTC = angles_BTC.cos()
        return torch.cat((cosine_BTC, cosine_BTC), dim=-1)[:, None], torch.cat((-sine_BTC, sine_BTC), dim=-1)[:, None]

    @staticmethod
    def rotate(x_BHTC: Tensor, cosine_B1TC: Tensor, sine_B1TC: Tensor) -> Tensor:
        """Rotate each pair (c, c + C/2) by its position's angle."""
        swapped_BHTC = x_BHTC.roll(x_BHTC.shape[-1] // 2, dims=-1)
        return torch.addcmul(x_BHTC * cosine_B1TC, swapped_BHTC, sine_B1TC)


def alibi_slopes(num_heads: int, bias_max: int) -> Tensor:
    """Each head's slope, float32 [H]: `slope · (key position - query position)` is added to query·key.

    For n heads, n a power of two: `2^(-i·bias_max/n)`, i = 1 … n. For others the next power's slopes, the even ones of
    them (counted from 1) first, as llm-foundry lays them out (arXiv 2108.12409).
    """
    power = 2 ** math.ceil(math.log2(num_heads))
    exponents = torch.arange(1, power + 1, dtype=torch.float64, device="cpu") * (bias_max / power)
    slopes = (2.0**-exponents).float()
    return slopes if power == num_heads else torch.cat((slopes[1::2], slopes[0::2]))[:num_heads]
