"""What models have learned since a common base, added to it: whole, or a part, and where signs differ by a vote.

    task-arithmetic   all changes, added                                          arXiv 2212.04089
    ties              the largest of each tensor, where they agree with the vote  arXiv 2306.01708
    dare              some by chance, the more scaled up the fewer, added         arXiv 2311.03099
    dare-ties         some by chance, where they agree with the vote

A vote elects for each number the sign of the models' weighted sum; the merged change is the weighted mean of those that
have it, and none where the vote is even. Changes as large as the smallest one that is kept are kept too. TIES' paper
takes the largest changes of the whole model; here it is those of each tensor, so that no more than a tensor of each
model is ever held.

Shapes: M models, N numbers of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vernacular.foundation.files import sha256_json
from vernacular.merging.blocks import blocks
from vernacular.merging.configuration import MergeConfiguration

Keep = Callable[[Tensor], Tensor]
"""Of a block of changes, what is kept of it; called with a tensor's blocks in their order."""


def add_changes(
    base: Tensor, tensors: Sequence[Tensor], shares: Sequence[float], configuration: MergeConfiguration, name: str
) -> Tensor:
    """`base + scale · change`, float32, where the change is merged from those of all models.

    Args:
        base: the tensor that all have begun with.
        tensors: one of each model, of its shape.
        shares: how much each model counts.
        configuration: the method, its density, scale and seed.
        name: the tensor's, which the chance depends on.
    """
    keeps = [_keep(base, tensor, configuration, name, model) for model, tensor in enumerate(tensors)]
    shares_M1 = torch.tensor(shares, dtype=torch.float32)[:, None]
    scale = 1.0 if configuration.scale is None else configuration.scale
    votes = configuration.method in ("ties", "dare-ties")
    merged = torch.empty(base.shape, dtype=torch.float32)
    for out_N, base_N, *tensors_MN in blocks(merged, base, *tensors):
        base_N = base_N.float()
        kept_MN = torch.stack([keep(own.float() - base_N) for keep, own in zip(keeps, tensors_MN, strict=True)])
        change_N = _elected(kept_MN, shares_M1) if votes else (kept_MN * shares_M1).sum(dim=0)
        torch.add(base_N, change_N, alpha=scale, out=out_N)
    return merged


def _elected(kept_MN: Tensor, shares_M1: Tensor) -> Tensor:
    """The weighted mean of the changes whose sign is that of the weighted sum; 0 where there is none."""
    weighted_MN = kept_MN * shares_M1
    agrees_MN = kept_MN * weighted_MN.sum(dim=0).sign() > 0
    counted_N = (agrees_MN * shares_M1).sum(dim=0)
    return (weighted_MN * agrees_MN).sum(dim=0) / counted_N.masked_fill(counted_N == 0, 1.0)


def _keep(base: Tensor, tensor: Tensor, configuration: MergeConfiguration, name: str, model: int) -> Keep:
    method, density = configuration.method, configuration.density
    if density is None or density == 1:
        return lambda change_N: change_N
    if method == "ties":
        return partial(_largest, least=_size_of_kth(base, tensor, max(1, int(density * base.numel()))))
    seed = int(sha256_json([configuration.seed or 0, name, model])[:15], 16)
    return partial(_by_chance, density=density, generator=torch.Generator().manual_seed(seed))


def _largest(change_N: Tensor, least: float) -> Tensor:
    return change_N.masked_fill(change_N.abs() < least, 0.0)


def _by_chance(change_N: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Each number with the probability `density`, and then divided by it: on average the change is the same."""
    return (torch.rand(change_N.shape, generator=generator) < density) * change_N / density


def _size_of_kth(base: Tensor, tensor: Tensor, kept: int) -> float:
    """The smallest absolute change of the `kept` largest."""
    sizes = np.empty(base.numel(), dtype=np.float32)
    for sizes_N, base_N, own_N in blocks(torch.from_numpy(sizes), base, tensor):
        torch.sub(own_N.float(), base_N.float(), out=sizes_N).abs_()
    sizes.partition(len(sizes) - kept)
    return float(sizes[len(sizes) - kept])
