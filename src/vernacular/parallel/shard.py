"""Sharded data parallelism (FSDP2): weights, gradients and optimiser state divided over the ranks that read other data.

Every rank's loss is its own share of the step's loss, so gradients are added, never averaged. Which ranks a weight is
shared among follows from which ranks see different tokens through it:
- a matrix cut by tensor parallelism: data_shard × context;
- an expert's: the ranks that hold the same expert;
- all others (embedding, norms, routers, head): data_shard × context × tensor, as each tensor rank has its own tokens.
  Norms that read a residual stream that is whole on every tensor rank are shared like the cut matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp._fully_shard._fsdp_common import FSDPMeshInfo, HSDPMeshInfo
from torch.distributed.tensor import Shard

from vernacular.foundation.errors import UserError
from vernacular.models.decoder import Decoder
from vernacular.models.feed_forward import ExpertFeedForward, Experts
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.parallel.mesh import Mesh

if TYPE_CHECKING:
    from torch.distributed.fsdp._fully_shard._fsdp_common import ShardPlacementResult

Place = Callable[[nn.Parameter], "ShardPlacementResult"]

# Cut matrices, what sees own tokens, experts: the ways to cut up the ranks and the dimension that shares them out.
_SHARED_OVER = (("weights", "shard"), ("tokens", "token"), ("experts", "expert_shard"))


def apply_shards(decoder: Decoder, mesh: Mesh, configuration: ParallelConfiguration) -> None:
    """Shard every block, and what stands around the blocks as one more group, in place."""
    if mesh.sizes.world == 1:
        return
    gathers_narrow = configuration.gather_dtype == "bfloat16"
    # Only what is multiplied is rounded: the residual stream and the norms stay in the decoder's own precision.
    narrow = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    as_they_are = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for block in decoder.blocks:
        if isinstance(block, nn.Identity):  # a layer of another stage
            continue
        place = _placement(block, mesh, sequence_parallel=configuration.sequence_parallel)
        ranks = mesh.shards("weights", "shard")
        if gathers_narrow:
            for norm in ("attention_norm", "feed_forward_norm"):
                fully_shard(
                    block.get_submodule(norm), mesh=ranks, reshard_after_forward=False, shard_placement_fn=place
                )
        fully_shard(
            block,
            mesh=ranks,
            reshard_after_forward=configuration.zero_stage == 3,
            shard_placement_fn=place,
            mp_policy=narrow if gathers_narrow else as_they_are,
        )
    if gathers_narrow:
        decoder.register_forward_pre_hook(_require_autocast)
    # The head is read by the loss, after the decoder's own pass: this group stays whole until the backward pass, and
    # in the weights' own precision, as the loss adds its gradient up over many chunks of tokens.
    fully_shard(decoder, mesh=mesh.shards("tokens", "token"), reshard_after_forward=False, mp_policy=as_they_are)
    for module in decoder.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def set_last_micro_batch(decoder: nn.Module, configuration: ParallelConfiguration, *, is_last: bool) -> None:
    """Say before each backward pass whether it is its step's last.

    Stage 1 keeps weights and gradients whole until then; the others share out every micro-batch's gradients.
    """
    if isinstance(decoder, FSDPModule) and configuration.zero_stage == 1:
        decoder.set_requires_gradient_sync(is_last)
        decoder.set_reshard_after_backward(is_last)


def let_go(decoder: nn.Module) -> None:
    """Leave nothing whole after passes without a backward pass, at whose end that would happen."""
    for module in decoder.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _placement(block: nn.Module, mesh: Mesh, *, sequence_parallel: bool) -> Place:
    """Which ranks share each of a block's weights, and along which of its dimensions it is cut."""
    # Not in PyTorch 2.11, on which one process trains all the same.
    from torch.distributed.fsdp._fully_shard._fsdp_common import ShardPlacementResult

    # Dimensions of other names may be the same groups of ranks: what is shared among those travels together.
    infos: dict[tuple[ProcessGroup, ...], FSDPMeshInfo] = {}
    for name, dimension in _SHARED_OVER:
        ranks = mesh.shards(name, dimension)
        infos.setdefault(tuple(ranks.get_all_groups()), _info(ranks))
    cut, token, expert = (infos[tuple(mesh.shards(*names).get_all_groups())] for names in _SHARED_OVER)
    experts = {weight for module in block.modules() if isinstance(module, Experts) for weight in module.parameters()}
    mixtures = [module for module in block.modules() if isinstance(module, ExpertFeedForward)]
    routers = {weight for mixture in mixtures for weight in mixture.router.parameters()}
    sees_own_tokens = sequence_parallel or mesh.sizes.tensor == 1

    def place(weight: nn.Parameter) -> ShardPlacementResult:
        if weight in experts:
            # Experts are divided along the first dimension; a second cut along it would be hard to undo.
            return ShardPlacementResult(Shard(1 if mesh.expert > 1 else 0), expert)
        if weight in routers or (weight.dim() == 1 and sees_own_tokens):
            return ShardPlacementResult(Shard(0), token)
        return ShardPlacementResult(Shard(0), cut)

    return place


def _info(ranks: DeviceMesh) -> FSDPMeshInfo:
    if ranks.ndim == 2:
        return HSDPMeshInfo(ranks, shard_mesh_dim=1, replicate_mesh_dim=0)
    return FSDPMeshInfo(ranks, shard_mesh_dim=0)


def _require_autocast(decoder: nn.Module, arguments: Any) -> None:
    if not torch.is_autocast_enabled(next(decoder.parameters()).device.type):
        raise UserError(
            "weights are gathered in bfloat16, but products are computed in float32",
            where="parallel.gather_dtype",
            fix="set gather_dtype to float32, or precision to bfloat16",
        )
