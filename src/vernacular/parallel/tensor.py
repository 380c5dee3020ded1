"""Tensor and sequence parallelism: every block's heads and inner columns divided over the tensor ranks.

Queries, keys, values, gate and up are cut by their outputs, what writes to the residual stream by its inputs
(arXiv 1909.08053). Everything else (embedding, norms, router, experts, head, loss) works token by token, so there each
tensor rank takes its own tokens, a consecutive part of the row. With sequence parallelism (arXiv 2205.05198) the
residual stream stays divided like that between the products; without it, it is whole on every tensor rank.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)

from vernacular.models.decoder import Decoder
from vernacular.models.feed_forward import ExpertFeedForward, GatedFeedForward
from vernacular.parallel.mesh import Mesh

_TOKENS = Shard(1)  # of [B, T, D]
_WRITES_RESIDUAL = ("attention.output", "feed_forward.down")


def apply_tensor(decoder: Decoder, mesh: Mesh, *, sequence_parallel: bool) -> None:
    """Divide every block of `decoder`, in place."""
    if mesh.sizes.tensor == 1:
        return
    ranks = mesh.cut("weights", "tensor")
    residual: Placement = _TOKENS if sequence_parallel else Replicate()
    for block in decoder.blocks:
        if isinstance(block, nn.Identity):  # a layer of another stage
            continue
        parallelize_module(block, ranks, _plan(block, residual), src_data_rank=None)
        for name in _WRITES_RESIDUAL:
            if isinstance(module := dict(block.named_modules()).get(name), nn.Linear):
                module.register_forward_hook(partial(_add_up, residual))
        if isinstance(block.feed_forward, ExpertFeedForward) and not sequence_parallel:
            _by_token(block.feed_forward, ranks, is_whole_after=True)
    if isinstance(decoder.embedding, nn.Embedding):
        decoder.embedding.register_forward_pre_hook(partial(_take_own, ranks))
        if not sequence_parallel:
            decoder.embedding.register_forward_hook(partial(_gather, ranks))
    if not sequence_parallel and not isinstance(decoder.final_norm, nn.Identity):
        _by_token(decoder.final_norm, ranks, is_whole_after=False)
    if decoder.heads.slopes_H is not None:
        decoder.heads = decoder.heads._replace(slopes_H=_own_part(ranks, decoder.heads.slopes_H, dim=0))


def _plan(block: nn.Module, residual: Placement) -> dict[str, ParallelStyle]:
    """How the parts of a block are cut; within a block nothing but whole tokens and own columns exist."""
    gather = partial(PrepareModuleInput, input_layouts=(residual,), desired_input_layouts=(Replicate(),))
    add_up = RowwiseParallel(output_layouts=Partial(), use_local_output=False)
    plan: dict[str, ParallelStyle] = {
        "attention.project": gather(),
        "attention.project.query": ColwiseParallel(),
        "attention.project.key": ColwiseParallel(),
        "attention.project.value": ColwiseParallel(),
        "attention.output": add_up,
    }
    if isinstance(block.feed_forward, ExpertFeedForward):
        return plan
    plan["feed_forward.down"] = add_up
    if isinstance(block.feed_forward, GatedFeedForward):
        return plan | {
            "feed_forward.project": gather(),
            "feed_forward.project.gate": ColwiseParallel(),
            "feed_forward.project.up": ColwiseParallel(),
        }
    return plan | {"feed_forward": gather(), "feed_forward.up": ColwiseParallel()}


def _by_token(module: nn.Module, ranks: DeviceMesh, *, is_whole_after: bool) -> None:
    """Let a module that works token by token see this rank's tokens only of an input that is whole."""
    module.register_forward_pre_hook(partial(_scatter, ranks))
    if is_whole_after:
        module.register_forward_hook(partial(_gather, ranks))


def _take_own(ranks: DeviceMesh, module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (_own_part(ranks, arguments[0], dim=1), *arguments[1:])


def _scatter(ranks: DeviceMesh, module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    whole = DTensor.from_local(arguments[0], ranks, [Replicate()], run_check=False)
    return (whole.redistribute(placements=[_TOKENS]).to_local(), *arguments[1:])


def _add_up(residual: Placement, module: nn.Module, arguments: Any, output: DTensor) -> Tensor:
    """The ranks' parts of a product, added up. Waits for the sum: what reads it may be no PyTorch operation."""
    return output.redistribute(placements=[residual], async_op=False).to_local()


def _gather(ranks: DeviceMesh, module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
    own = DTensor.from_local(output, ranks, [_TOKENS], run_check=False)
    return own.redistribute(placements=[Replicate()]).to_local()


def _own_part(ranks: DeviceMesh, whole: Tensor, *, dim: int) -> Tensor:
    return torch.chunk(whole, ranks.size(), dim=dim)[ranks.get_local_rank()]
