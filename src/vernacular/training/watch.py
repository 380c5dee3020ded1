"""What is watched beside the loss: how far a step moves the weights, memory, and where the time goes."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vernacular.foundation.artifact import LOGS
from vernacular.parallel.gradients import holders, own_part, place_of
from vernacular.parallel.mesh import Mesh
from vernacular.training.configuration import ProfileConfiguration
from vernacular.training.optimisers.groups import ROLES, Role, roles

_LOOKED_AT = 65_536


class UpdateRatio:
    """‖Δw‖ / ‖w‖ by what the weights are part of, over the first 65,536 values of each tensor, on whichever ranks.

    About 1e-3 is usual at the peak rate; far less learns nothing, far more forgets what it learned.
    """

    def __init__(self, decoder: nn.Module, mesh: Mesh) -> None:
        self._decoder, self._mesh = decoder, mesh
        self._before: list[Tensor] = []
        self._first = {name: _first_of(parameter) for name, _, parameter in roles(decoder)}

    def remember(self) -> None:
        """Take the weights down as they are before a step."""
        self._before = [values.clone() for _, _, values in self._values()]

    def measure(self) -> dict[str, float]:
        """The ratios since `remember`, as `update_ratio/ROLE`, over all ranks; what several hold counts once."""
        sums = torch.zeros(2, len(ROLES), dtype=torch.float64, device=self._mesh.device)
        for before, (role, share, after) in zip(self._before, self._values(), strict=True):
            sums[0, ROLES.index(role)] += share * (after.float() - before.float()).square().sum()
            sums[1, ROLES.index(role)] += share * before.float().square().sum()
        self._before = []
        moved, size = self._mesh.sum(sums).tolist()
        ratios = zip(ROLES, moved, size, strict=True)
        return {f"update_ratio/{role}": (change / whole) ** 0.5 for role, change, whole in ratios if whole}

    def _values(self) -> Iterator[tuple[Role, float, Tensor]]:
        for name, role, parameter in roles(self._decoder):
            values = own_part(parameter.detach()).flatten()[self._first[name]]
            yield role, 1 / holders(parameter, self._mesh), values


def _first_of(parameter: Tensor) -> Tensor | slice:
    """Which of this rank's values are among the tensor's first ones."""
    if not isinstance(parameter, DTensor):
        return slice(_LOOKED_AT)
    # A place above 2³¹ is counted as a negative number.
    place = place_of(parameter).flatten()
    return ((place >= 0) & (place < _LOOKED_AT)).nonzero().squeeze(1)


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory held at one time: on a GPU by tensors, on a CPU by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Profiler:
    """Writes the trace of the steps that a recipe names to logs/profile-FIRST-LAST.json."""

    def __init__(self, configuration: ProfileConfiguration | None, folder: Path, device: torch.device) -> None:
        self._configuration = configuration
        self._folder = folder
        self._device = device
        self._running: torch.profiler.profile | None = None
        self._first = self._last = 0

    @contextmanager
    def around(self, step: int) -> Iterator[None]:
        """Time what is done inside, if `step` (from 1) is among the named ones."""
        wanted = self._configuration
        if wanted is None or not wanted.first <= step <= wanted.last:
            yield
            return
        if self._running is None:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if self._device.type == "cuda":
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._running, self._first = torch.profiler.profile(activities=activities), step
            self._running.start()
        yield
        self._last = step
        if step == wanted.last:
            self.close()

    def close(self) -> None:
        """Write the trace, if one is being taken."""
        if self._running is None:
            return
        self._running.stop()
        self._running.export_chrome_trace(str(self._folder / LOGS / f"profile-{self._first}-{self._last}.json"))
        self._running = None
