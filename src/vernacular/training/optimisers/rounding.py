"""How a float32 result becomes a bfloat16 weight without losing what is smaller than a weight's last bit.

A bfloat16 weight has 8 significant bits: an update below 1/512 of it vanishes when it is rounded to nearest, and late
training stands still. Two ways out, with no float32 copy of the weights:

- `stochastic`: round up or down by chance, in proportion to what is cut off, so that the mean is right.
- `kahan`: remember what was cut off, and add it to the next step. It is kept as the 16 bits by which the float32 number
  differs, so nothing is lost; a bfloat16 number of it would lose what is smaller than 2⁻¹⁷ of the weight.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Literal

import torch
from torch import Tensor

Rounding = Literal["nearest", "stochastic", "kahan"]

_CUT_BITS = 16  # of a float32, below a bfloat16's last


class Rounder:
    """Reads weights as float32 and writes them back; float32 weights pass through as they are.

    The noise of a value is a function of (seed, the weight's name, step, the value's place in the whole weight): a
    resumed run draws the same without a generator's state, and so does a run on other ranks.
    """

    def __init__(self, rounding: Rounding, seed: int) -> None:
        self.rounding = rounding
        self.seed = seed

    def new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """What must be remembered of a weight beside its averages."""
        keeps_cut = self.rounding == "kahan" and parameter.dtype != torch.float32
        return {"cut": torch.zeros_like(parameter, dtype=torch.int16)} if keeps_cut else {}

    @staticmethod
    def read(own: Tensor, state: dict[str, Any]) -> Tensor:
        """The weight in float32, with what earlier roundings cut off; if it is float32, itself, to change in place."""
        if own.dtype == torch.float32:
            return own
        value = own.float()
        return (value.view(torch.int32) + state["cut"]).view(torch.float32) if "cut" in state else value

    def key(self, name: str, step: int) -> Tensor | None:
        """What makes the noise of this weight's step its own, int32; None for roundings without chance."""
        if self.rounding != "stochastic":
            return None
        digest = blake2b(f"{self.seed} {name} {step}".encode(), digest_size=4).digest()
        return torch.tensor(int.from_bytes(digest, signed=True), dtype=torch.int32)

    @staticmethod
    def write(value: Tensor, own: Tensor, state: dict[str, Any], place: Tensor | None, key: Tensor | None) -> None:
        """Round `value` into the part of a weight that this rank holds.

        Args:
            value: float32, the weight as it should be.
            own: the part, changed in place.
            state: with what was cut off, where that is remembered.
            place: int32, where in the whole weight each value stands; with a key only.
            key: of stochastic rounding.
        """
        if own.dtype == torch.float32:
            return
        if place is not None and key is not None:
            # Noise under the last kept bit, then the cut.
            noise = _stirred(place ^ key) & ((1 << _CUT_BITS) - 1)
            value = ((value.view(torch.int32) + noise) & -(1 << _CUT_BITS)).view(torch.float32)
        if "cut" in state:
            bits = value.view(torch.int32)
            kept = (bits + (1 << (_CUT_BITS - 1))) & -(1 << _CUT_BITS)
            state["cut"].copy_(bits - kept)
            value = kept.view(torch.float32)
        own.copy_(value)


def _stirred(values: Tensor) -> Tensor:
    """A permutation of the 32-bit numbers, in place, in which every bit depends on every other.

    Source: Wellons, Prospecting for Hash Functions (2018), the function lowbias32.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, -0x7B935975), (16, 1)):
        below = values.bitwise_right_shift(shift).bitwise_and_((1 << (32 - shift)) - 1)
        values.bitwise_xor_(below).mul_(factor)
    return values
