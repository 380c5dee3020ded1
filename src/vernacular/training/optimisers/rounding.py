"""How a float32 result becomes a bfloat16 weight without losing what is smaller than a weight's last bit.

A bfloat16 weight has 8 significant bits: an update below 1/512 of it vanishes when it is rounded to nearest, and late
training stands still. Two ways out, with no float32 copy of the weights:

- `stochastic`: round up or down by chance, in proportion to what is cut off, so that the mean is right.
- `kahan`: remember what was cut off in a second bfloat16 tensor, and add it to the next step.
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

    The noise is a function of (seed, tensor, step): a resumed run draws the same without a generator's state.
    """

    def __init__(self, rounding: Rounding, seed: int) -> None:
        self.rounding = rounding
        self.seed = seed

    def new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """What must be remembered of a weight beside its averages."""
        keeps_rest = self.rounding == "kahan" and parameter.dtype != torch.float32
        return {"rest": torch.zeros_like(parameter)} if keeps_rest else {}

    def read(self, parameter: Tensor, state: dict[str, Any]) -> Tensor:
        """The weight in float32, with what earlier roundings cut off; if it is float32, itself, to change in place."""
        if parameter.dtype == torch.float32:
            return parameter
        value = parameter.float()
        return value.add_(state["rest"].float()) if "rest" in state else value

    def write(self, value: Tensor, parameter: Tensor, state: dict[str, Any], number: int) -> None:
        """Round `value` into `parameter`, the tensor of this number."""
        if parameter.dtype == torch.float32:
            return
        if self.rounding == "stochastic":
            value = self._stochastic(value, number, int(state["step"]))
        parameter.copy_(value)
        if "rest" in state:
            state["rest"].copy_(value - parameter.float())

    def _stochastic(self, value: Tensor, number: int, step: int) -> Tensor:
        """The bfloat16 below or above, as float32: noise under the last kept bit, then the cut."""
        generator = torch.Generator(value.device)
        # A CPU's generator takes 32 bits of a seed; a hash puts all three numbers into every bit.
        generator.manual_seed(int.from_bytes(blake2b(f"{self.seed} {number} {step}".encode(), digest_size=4).digest()))
        noise = torch.randint(
            0, 1 << _CUT_BITS, value.shape, generator=generator, dtype=torch.int32, device=value.device
        )
        bits = (value.view(torch.int32) + noise) & -(1 << _CUT_BITS)
        return bits.view(torch.float32)
