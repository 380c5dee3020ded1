"""A spread model's state on disk: saved under one layout, loaded under any other.

What is saved names each weight and each of its optimiser's values by the weight's own name, with its whole shape and
where each rank's part lies in it (torch distributed checkpoint). Nothing in it tells of ranks, stages or optimiser
groups, so 4 ranks, 1 rank, another tensor or expert split and a pipeline read the same files.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from vernacular.models.decoder import Decoder
from vernacular.models.weights import hollow_decoder
from vernacular.parallel.mesh import Mesh

# Each weight's values under its own name, instead of by its place in some group.
_BY_NAME = StateDictOptions(flatten_optimizer_state_dict=True)


def state_of(decoder: Decoder, optimiser: Optimizer | None) -> dict[str, Any]:
    """What a checkpoint holds: `model` and, with one, `optimiser`, each by the weights' names; `DTensor`s of own parts.

    An optimiser that has not stepped yet is given its first values by this.
    """
    state: dict[str, Any] = {"model": get_model_state_dict(decoder, options=_BY_NAME)}
    if optimiser is not None:
        state["optimiser"] = get_optimizer_state_dict(decoder, optimiser, options=_BY_NAME)
    return state


def take_state(decoder: Decoder, optimiser: Optimizer | None, state: dict[str, Any]) -> None:
    """Give a decoder and its optimiser a state as `state_of` returns it."""
    set_model_state_dict(decoder, state["model"], options=_BY_NAME)
    if optimiser is not None:
        set_optimizer_state_dict(decoder, optimiser, state["optimiser"], options=_BY_NAME)


def gather_decoder(decoder: Decoder, mesh: Mesh) -> Decoder | None:
    """The whole decoder on the CPU of rank 0, to be written as a weights folder; None on the other ranks.

    All ranks call this. A weight at a time is whole on every rank that holds a part of it.
    """
    if mesh.sizes.world == 1:
        return decoder
    leads = mesh.rank % (mesh.sizes.world // mesh.sizes.pipeline) == 0
    held: dict[str, Tensor] = {}
    for name, weight in decoder.state_dict().items():
        whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
        if leads:
            held[name] = whole.detach().cpu()
    if mesh.sizes.pipeline > 1 and leads:
        held = _from_all_stages(held, mesh)
    if mesh.rank:
        return None
    whole_decoder = hollow_decoder(decoder.configuration)
    whole_decoder.load_state_dict(held, assign=True)
    if decoder.configuration.tie_embeddings:
        whole_decoder.head.weight = whole_decoder.embedding.weight
    return whole_decoder


def _from_all_stages(held: dict[str, Tensor], mesh: Mesh) -> dict[str, Tensor]:
    """The stages' weights put together, on rank 0."""
    stages: list[Any] | None = [None] * mesh.sizes.pipeline if mesh.rank == 0 else None
    dist.gather_object(held, stages, dst=0, group=mesh.cut("rows", "pipeline").get_group())
    return {name: weight for stage in stages or [] for name, weight in stage.items()}
