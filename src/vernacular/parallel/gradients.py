"""The norm of a gradient that is spread over ranks, and its bound. One sum over all ranks, whatever the layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from vernacular.parallel.mesh import Mesh


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], mesh: Mesh, largest: float = math.inf) -> float:
    """Scale the whole model's gradient down to a norm of `largest`; returns the norm it had.

    The same number on every rank, over all parameters of all stages; equal to `nn.utils.clip_grad_norm_` on one device.
    A norm that is not finite is returned and scales nothing.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = math.sqrt(_sum_of_squares(gradients, mesh))
    if math.isfinite(norm) and norm > largest:
        parts = [own_part(gradient) for gradient in gradients]
        torch._foreach_mul_(parts, largest / (norm + 1e-6))
    return norm


def _sum_of_squares(gradients: list[Tensor], mesh: Mesh) -> float:
    """Each rank's parts, divided by how many ranks hold the same part, summed over all ranks."""
    total = torch.zeros((), dtype=torch.float64, device=mesh.device)
    if gradients:
        squares = torch.stack(torch._foreach_norm([own_part(gradient) for gradient in gradients])).double().square()
        copies = torch.tensor([holders(gradient, mesh) for gradient in gradients], dtype=torch.float64)
        total = (squares / copies.to(squares.device)).sum()
    if mesh.sizes.world > 1:
        dist.all_reduce(total)
    return float(total)


def holders(tensor: Tensor, mesh: Mesh) -> int:
    """Ranks of one stage that hold the same part of a weight or a gradient."""
    ranks = mesh.sizes.world // mesh.sizes.pipeline
    if isinstance(tensor, DTensor):
        for size, placement in zip(tensor.device_mesh.shape, tensor.placements, strict=True):
            if not isinstance(placement, Replicate):
                ranks //= size
    return ranks


def on_whole_matrices(parameter: Tensor, part: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """This rank's part of what `function` makes of whole matrices, [..., O, I], of which `part` is its part.

    Args:
        parameter: spread as the part is.
        part: [..., O, I], this rank's.
        function: from whole matrices to as many of the same shape.
    """
    if not isinstance(parameter, DTensor) or not _cuts_matrices(parameter):
        return function(part)
    ranks, placements = parameter.device_mesh, parameter.placements
    spread = DTensor.from_local(
        part, ranks, placements, run_check=False, shape=parameter.shape, stride=parameter.stride()
    )
    answer = DTensor.from_local(function(spread.full_tensor()), ranks, [Replicate()] * ranks.ndim, run_check=False)
    return answer.redistribute(placements=placements).to_local()


def _cuts_matrices(tensor: DTensor) -> bool:
    """Whether a rank holds a part of a matrix; of a stack of them it may hold some, whole."""
    cut = [cast(Shard, placement).dim for placement in tensor.placements if not isinstance(placement, Replicate)]
    return any(dimension >= tensor.dim() - 2 for dimension in cut)


def place_of(tensor: Tensor) -> Tensor:
    """Where each value that this rank holds stands in the whole tensor, counted row by row modulo 2³², as int32."""
    shape, offsets = _own_place(tensor)
    place = torch.zeros((), dtype=torch.int32, device=own_part(tensor).device)
    for length, whole, offset in zip(shape, tensor.shape, offsets, strict=True):
        along = torch.arange(offset, offset + length, dtype=torch.int32, device=place.device)
        place = place[..., None] * whole + along
    return place


def part_of(whole: Tensor, tensor: Tensor) -> Tensor:
    """What of `whole` this rank holds of a tensor of the same shape."""
    shape, offsets = _own_place(tensor)
    return whole[tuple(slice(offset, offset + length) for offset, length in zip(offsets, shape, strict=True))]


def _own_place(tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape of this rank's part, and where in the whole tensor its first value stands."""
    if not isinstance(tensor, DTensor):
        return tuple(tensor.shape), (0,) * tensor.dim()
    return compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)


def own_part(tensor: Tensor) -> Tensor:
    """What of a tensor this rank holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
