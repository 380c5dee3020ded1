"""The mesh: which rank is which, and the groups that talk to each other. One process is a mesh of one.

Ranks are laid out over (pipeline, data_replicate, data_shard, context, tensor), the last varying fastest, so that the
ranks that talk most are neighbours. The ranks of one replica of one stage, `data_shard × context × tensor`, each see
tokens of their own; the experts are divided over consecutive ones of them.
"""

from __future__ import annotations

import atexit
import math
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from itertools import count

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.distributed_c10d import _set_pg_timeout

from vernacular.foundation.errors import UserError
from vernacular.parallel.configuration import ParallelConfiguration, Sizes
from vernacular.parallel.processes import number_from_environment, this_process

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
            timeout = timedelta(seconds=configuration.timeout_seconds)
            outer, names = (sizes.pipeline, sizes.data_replicate), ("pipeline", "replicate")
            inner = sizes.data_shard * sizes.context
            shapes = {
                "rows": ((sizes.data_shard, sizes.context, sizes.tensor), ("data", "context", "tensor")),
                "weights": ((inner, sizes.tensor), ("shard", "tensor")),
                "tokens": ((sizes.tokens,), ("token",)),
                "experts": ((sizes.tokens // self.expert, self.expert), ("expert_shard", "expert")),
            }
            for cut, (shape, dimensions) in shapes.items():
                self._cuts[cut] = _device_mesh(kind, (*outer, *shape), (*names, *dimensions), timeout)

    @property
    def leads(self) -> bool:
        """Whether this is the rank that alone writes what is not its own part."""
        return self.rank == 0

    @property
    def layout(self) -> str:
        """The sizes in words; where they are the same, a run goes on bit for bit."""
        sizes = {**self.sizes._asdict(), "expert": self.expert}
        return " × ".join(f"{name} {size}" for name, size in sizes.items() if size > 1) or "one process"

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

        For sums of losses and correct answers over a rank's own targets (`share`). Ranks of a pipeline's earlier stages
        have no share: what they give is left out.
        """
        return self._sum(values if self.is_last_stage else [0.0] * len(values))

    def total_over_rows(self, *values: float) -> list[float]:
        """Each value, a sum over the rows that a rank reads, over all rows of all ranks, each row once."""
        is_first_reader = self.place("pipeline") == self.place("context") == self.place("tensor") == 0
        return self._sum(values if is_first_reader else [0.0] * len(values))

    def sum(self, values: Tensor) -> Tensor:
        """A tensor summed over all ranks; not differentiable."""
        values = values.detach().clone()
        if self.sizes.world > 1:
            dist.all_reduce(values)
        return values

    def gather(self, *values: float) -> list[list[float]]:
        """The values of every rank, in rank order."""
        own = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.sizes.world == 1:
            return [own.tolist()]
        everyones = own.new_empty(self.sizes.world * len(values))
        dist.all_gather_single(everyones, own)
        return everyones.view(self.sizes.world, len(values)).tolist()

    def wait(self) -> None:
        """Go on once all ranks have come here."""
        self._sum([0.0])

    def _sum(self, values: Sequence[float]) -> list[float]:
        if self.sizes.world == 1:
            return list(values)
        return self.sum(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()


def open_mesh(configuration: ParallelConfiguration, device: str = "cpu") -> Mesh:
    """The mesh of the processes that `torchrun` started, or of this one alone.

    Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as `torchrun` sets them.

    Args:
        configuration: sizes; their product must be WORLD_SIZE.
        device: `cpu` (gloo) or `cuda` (nccl; the GPU is that of LOCAL_RANK).
    """
    configuration.sizes(number_from_environment("WORLD_SIZE", 1))  # refuse before anybody waits for anybody
    if device not in _BACKENDS:
        raise UserError(f"no way to talk between devices of kind '{device}'", where="device", fix="use cpu or cuda")
    processes = this_process()
    own = torch.device("cuda", number_from_environment("LOCAL_RANK", 0)) if device == "cuda" else torch.device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    if processes.size > 1:
        _join(_BACKENDS[device], own, timedelta(seconds=configuration.timeout_seconds))
    return Mesh(configuration, own, processes.rank, processes.size)


# Each group finds itself at a place of its own in the store.
_meshes = count()


def _join(backend: str, own: torch.device, timeout: timedelta) -> None:
    """Join the group of all processes, and stay in it from stage to stage.

    PyTorch keeps what it found out for a layout, with the names of that layout's groups: were they left and joined
    anew, the next stage of the same layout would look for groups that are gone.
    """
    if dist.is_initialized() and dist.get_backend() != backend:
        close_meshes()
    if dist.is_initialized():
        _set_pg_timeout(timeout)
        return
    processes = this_process()
    dist.init_process_group(
        backend,
        store=dist.PrefixStore(f"mesh-{next(_meshes)}", processes.store),
        rank=processes.rank,
        world_size=processes.size,
        timeout=timeout,
        device_id=own if own.type == "cuda" else None,
    )
    atexit.register(close_meshes)


def close_meshes() -> None:
    """Leave the group of processes; called by itself when the process ends."""
    _groups_of.cache_clear()
    if dist.is_initialized():
        dist.destroy_process_group()


def _device_mesh(kind: str, shape: tuple[int, ...], names: tuple[str, ...], timeout: timedelta) -> DeviceMesh:
    """All ranks laid out in `shape`. Dimensions that part the ranks alike share their groups."""
    ranks = torch.arange(math.prod(shape)).view(shape)
    groups = []
    for dimension, size in enumerate(shape):
        lines = ranks.movedim(dimension, -1).reshape(-1, size).tolist()
        groups.append(_groups_of(tuple(tuple(line) for line in lines)))
        _set_pg_timeout(timeout, groups[-1])
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
