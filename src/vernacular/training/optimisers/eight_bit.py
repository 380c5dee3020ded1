"""Averages in 8 bits a value, in blocks that share a scale: 8-bit optimisers (arXiv 2110.02861), whose table this is.

A block is up to 256 values of one row and never goes on into the next. So ranks that share out rows hold whole blocks,
the same ones on every layout, and codes and scales are handed from one layout to another as weights are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.functional import pad

from vernacular.foundation.errors import UserError
from vernacular.parallel.gradients import own_part
from vernacular.training.optimisation import EIGHT_BIT_BLOCK as BLOCK

FEWEST = 4096  # values of a weight whose averages are in 8 bits, as is usual; norms never are
CODES, SCALE = "_codes", "_scale"  # what the names of an average's two tensors end with
# The square average is never below 0 and needs no sign.
_HAS_SIGN = {"mean": True, "square": False}
_EXPONENTS = 7


def is_eight_bit(parameter: Tensor) -> bool:
    """Whether a weight's averages are in 8 bits; a matter of its whole shape, which no layout changes."""
    return parameter.dim() > 1 and parameter.numel() >= FEWEST


def new_averages(parameter: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Codes and scales of averages of 0, spread as the weight is.

    Raises:
        UserError: a rank's part of a row ends within a block.
    """
    state: dict[str, Tensor] = {}
    for name in names:
        codes = torch.zeros_like(parameter, dtype=torch.uint8)
        state |= {f"{name}{CODES}": codes, f"{name}{SCALE}": _new_scale(codes)}
    return state


def _new_scale(codes: Tensor) -> Tensor:
    own, columns = own_part(codes), codes.shape[-1]
    if own.shape[-1] not in (0, columns) and own.shape[-1] % BLOCK:
        raise UserError(
            f"parallel.tensor leaves a rank {own.shape[-1]} of a row's {columns} values, which is no multiple of"
            f" {BLOCK}: as many share a scale, and another layout would have other scales",
            where="optimiser.name: adamw-8bit",
            fix="choose parallel.tensor so that it is one, or use adamw-bf16",
        )
    scale = own.new_zeros((*own.shape[:-1], -(-own.shape[-1] // BLOCK)), dtype=torch.float32)
    if not isinstance(codes, DTensor):
        return scale
    shape = torch.Size((*codes.shape[:-1], -(-columns // BLOCK)))
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(scale, codes.device_mesh, codes.placements, run_check=False, shape=shape, stride=stride)


class EightBitAverage:
    """An average as rules read and write it, over the codes and scales of a rank's own part.

    Args:
        name: `mean` or `square`.
        codes: uint8 [..., I].
        scale: float32 [..., blocks of a row].
    """

    def __init__(self, name: str, codes: Tensor, scale: Tensor) -> None:
        self._codes, self._scale = codes, scale
        self._table, self._borders = _tables(_HAS_SIGN[name], codes.device)

    def float(self) -> Tensor:
        """The values, float32 [..., I]."""
        blocks = self._in_blocks(self._table[self._codes.int()]) * self._scale[..., None]
        return blocks.flatten(-2)[..., : self._codes.shape[-1]]

    def copy_(self, values: Tensor) -> None:
        """Keep the nearest values that there are codes for."""
        blocks = self._in_blocks(values)
        self._scale.copy_(blocks.abs().amax(-1))
        shares = blocks / self._scale.clamp(min=torch.finfo(torch.float32).tiny)[..., None]
        codes = torch.bucketize(shares, self._borders, right=True)
        self._codes.copy_(codes.flatten(-2)[..., : self._codes.shape[-1]])

    def _in_blocks(self, values: Tensor) -> Tensor:
        """[..., I] as [..., blocks, values of a block]; what the last one lacks is 0."""
        columns = values.shape[-1]
        length = max(1, min(BLOCK, columns))  # a rank may have no part of the rows
        return pad(values, (0, -columns % length)).unflatten(-1, (-1, length))


def open_averages(state: dict[str, Any]) -> dict[str, Any]:
    """A weight's state with each pair of codes and scales as an `EightBitAverage`."""
    names = [key.removesuffix(CODES) for key in state if key.endswith(CODES)]
    pairs = {name: EightBitAverage(name, state[f"{name}{CODES}"], state[f"{name}{SCALE}"]) for name in names}
    return {key: value for key, value in state.items() if not key.endswith((CODES, SCALE))} | pairs


@cache
def _tables(has_sign: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """The 256 shares of a block's largest value, ascending, and the 255 borders between them."""
    table = torch.tensor(shares(has_sign), dtype=torch.float32, device=device)
    return table, (table[1:] + table[:-1]) / 2


def shares(has_sign: bool) -> list[float]:
    """Dynamic tree numbers: powers of ten from 10⁻⁶ to 1, each cut evenly into the finer steps the larger it is."""
    found = [0.0, 1.0]
    for exponent in range(_EXPONENTS):
        count = 2 ** (exponent + (0 if has_sign else 1))
        step = 0.9 / count
        middles = [10.0 ** (exponent + 1 - _EXPONENTS) * (0.1 + step * (place + 0.5)) for place in range(count)]
        found += middles + ([-value for value in middles] if has_sign else [])
    return sorted(found)
