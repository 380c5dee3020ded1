"""The mesh: which rank is which, and the groups that talk to each other. One process is a mesh of one.

Ranks are laid out over (pipeline, data_replicate, data_shard, context, tensor), the last varying fastest, so that the
ranks that talk most are neighbours. The ranks of one replica of one stage, `data_shard × context × tensor`, each see
tokens of their own; the experts are divided over consecutive ones of them.
"""

from __future__ import annotations

import atexit
import math
import os
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from vernacular.foundation.errors import UserError
from vernacular.parallel.configuration import ParallelConfiguration, Sizes

_BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


class Mesh:
    """All ranks, as the room's other files see them. Made by `open_mesh`.

    Attributes:
        sizes: ranks along each dimension.
        device: this rank's.
        rank: this rank, of `sizes.world`.
    """

    def __init__(self, configuration: ParallelConfiguration, device: torch.device, rank: int, world: int) -> None:
        self.sizes: Sizes = configuration.sizes(world)
        self.device = device
        self.rank = rank
        sizes, kind = self.sizes, device.type
        self.expert = configuration.expert
        # The same ranks cut up in different ways; a single process needs none of them.
        self._cuts: dict[str, DeviceMesh] = {}
        if world > 1:
            outer, names = (sizes.pipeline, sizes.data_replicate), ("pipeline", "replicate")
            inner = sizes.data_shard * sizes.context
            shapes = {
                "rows": ((sizes.data_shard, sizes.context, sizes.tensor), ("data", "context", "tensor")),
                "weights": ((inner, sizes.tensor), ("shard", "tensor")),
                "tokens": ((sizes.tokens,), ("token",)),
                "experts": ((sizes.tokens // self.expert, self.expert), ("expert_shard", "expert")),
            }
            for cut, (shape, dimensions) in shapes.items():
                self._cuts[cut] = _device_mesh(kind, (*outer, *shape), (*names, *dimensions))

    def cut(self, name: str, *dimensions: str) -> DeviceMesh:
        """Some dimensions of one way to cut up the ranks: `rows`, `weights`, `tokens` or `experts`."""
        return self._cuts[name][dimensions if len(dimensions) > 1 else dimensions[0]]

    def shards(self, name: str, dimension: str) -> DeviceMesh:
        """The ranks that share out a weight, with the replicas as an outer dimension where there are any."""
        return self.cut(name, *(("replicate", dimension) if self.sizes.data_replicate > 1 else (dimension,)))

    def place(self, dimension: str) -> int:
        """This rank's place along `pipeline`, `replicate`, `data`, `context` or `tensor`."""
        return self._cuts["rows"].get_local_rank(dimension) if self._cuts else 0

    @property
    def data_rank(self) -> int:
        """Which slice of the global batch this rank reads, of `sizes.data` (`Order.indices`)."""
        return self.place("replicate") * self.sizes.data_shard + self.place("data")

    @property
    def is_first_stage(self) -> bool:
        """Whether this rank holds the embedding."""
        return self.place("pipeline") == 0

    @property
    def is_last_stage(self) -> bool:
        """Whether this rank holds the head, and so computes losses."""
        return self.place("pipeline") == self.sizes.pipeline - 1

    def total(self, *values: float) -> list[float]:
        """Each value summed over every rank's own share of the loss; the same on all ranks.

        For sums of losses, correct answers and weights over a rank's own targets (`share`). Ranks of a pipeline's
        earlier stages have no share: what they give is left out.
        """
        if self.sizes.world == 1:
            return list(values)
        counted = values if self.is_last_stage else [0.0] * len(values)
        sums = torch.tensor(counted, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(value) for value in sums.tolist()]

    def sum_over_tokens(self, values: Tensor) -> Tensor:
        """A tensor summed over all ranks that see tokens of their own in this stage; not differentiable."""
        values = values.detach().clone()
        for dimension in ("replicate", "token"):
            if self._cuts:
                dist.all_reduce(values, group=self._cuts["tokens"].get_group(dimension))
        return values


def open_mesh(configuration: ParallelConfiguration, device: str = "cpu") -> Mesh:
    """The mesh of the processes that `torchrun` started, or of this one alone.

    Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as `torchrun` sets them.

    Args:
        configuration: sizes; their product must be WORLD_SIZE.
        device: `cpu` (gloo) or `cuda` (nccl; the GPU is that of LOCAL_RANK).
    """
    rank, world = _from_environment("RANK", 0), _from_environment("WORLD_SIZE", 1)
    configuration.sizes(world)  # refuse before anybody waits for anybody
    if device not in _BACKENDS:
        raise UserError(f"no way to talk between devices of kind '{device}'", where="device", fix="use cpu or cuda")
    own = torch.device("cuda", _from_environment("LOCAL_RANK", 0)) if device == "cuda" else torch.device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    if world > 1:
        _join(configuration, device, own, rank, world)
    return Mesh(configuration, own, rank, world)


def close_meshes() -> None:
    """Leave the group of processes; called by itself when the process ends."""
    _groups_of.cache_clear()
    if dist.is_initialized():
        dist.destroy_process_group()


def _join(configuration: ParallelConfiguration, device: str, own: torch.device, rank: int, world: int) -> None:
    """Make this process one of the group's, once: later meshes of the same process talk through the same group."""
    if dist.is_initialized():
        if dist.get_world_size() != world:
            raise UserError(
                f"WORLD_SIZE is {world}, but this process is in a group of {dist.get_world_size()}", where="WORLD_SIZE"
            )
        return
    _require_address()
    timeout = timedelta(seconds=configuration.timeout_seconds)
    dist.init_process_group(
        _BACKENDS[device],
        store=_fresh_store(timeout),
        rank=rank,
        world_size=world,
        timeout=timeout,
        device_id=own if own.type == "cuda" else None,
    )
    atexit.register(close_meshes)


def _fresh_store(timeout: timedelta) -> dist.Store | None:
    """Where the processes leave their addresses for each other; None: PyTorch's own choice.

    torchrun's store outlives the processes that it restarts, and with it the addresses of those that died.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    if _from_environment("GROUP_WORLD_SIZE", 1) > 1:
        # Nodes count restarts each for itself, so the count cannot tell the addresses apart.
        if _from_environment("TORCHELASTIC_MAX_RESTARTS", 0) == 0:
            return None
        raise UserError(
            "torchrun on several nodes hands restarted processes the addresses of those that died",
            where="environment of torchrun",
            fix="set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun on every node, or --max-restarts=0",
        )
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"], _from_environment("MASTER_PORT", 0), is_master=False, timeout=timeout
    )
    return dist.PrefixStore(f"attempt-{_from_environment('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def _device_mesh(kind: str, shape: tuple[int, ...], names: tuple[str, ...]) -> DeviceMesh:
    """All ranks laid out in `shape`. Dimensions that part the ranks alike share their groups."""
    ranks = torch.arange(math.prod(shape)).view(shape)
    groups = []
    for dimension, size in enumerate(shape):
        lines = ranks.movedim(dimension, -1).reshape(-1, size).tolist()
        groups.append(_groups_of(tuple(tuple(line) for line in lines)))
    return DeviceMesh.from_group(groups, kind, ranks, mesh_dim_names=names)


@cache
def _groups_of(parted: tuple[tuple[int, ...], ...]) -> dist.ProcessGroup:
    """This rank's group, of all ranks parted into groups."""
    if len(parted) == 1:
        everyone = dist.group.WORLD
        assert everyone is not None
        return everyone
    own, _ = dist.new_subgroups_by_enumeration([list(ranks) for ranks in parted])
    return own


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise UserError(f"{name} is '{text}', not a number", where=f"environment variable {name}", fix="use torchrun")
    return int(text)


def _require_address() -> None:
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set",
            where="environment",
            fix="start the processes with torchrun, or unset WORLD_SIZE to run alone",
        )
