"""What is watched beside the loss: how far a step moves the weights, memory, and where the time goes."""

from __future__ import annotations

import resource
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from vernacular.foundation.artifact import LOGS
from vernacular.training.configuration import ProfileConfiguration
from vernacular.training.optimisers.groups import roles

_LOOKED_AT = 65_536


class UpdateRatio:
    """‖Δw‖ / ‖w‖ by what the weights are part of, over the first 65,536 values of each tensor.

    About 1e-3 is usual at the peak rate; far less learns nothing, far more forgets what it learned.
    """

    def __init__(self, decoder: nn.Module) -> None:
        self._decoder = decoder
        self._before: list[tuple[str, Tensor]] = []

    def remember(self) -> None:
        """Take the weights down as they are before a step."""
        self._before = [(role, values.clone()) for role, values in self._values()]

    def measure(self) -> dict[str, float]:
        """The ratios since `remember`, as `update_ratio/ROLE`."""
        moved: dict[str, float] = defaultdict(float)
        size: dict[str, float] = defaultdict(float)
        for (role, before), (_, after) in zip(self._before, self._values(), strict=True):
            moved[role] += (after.float() - before.float()).square().sum().item()
            size[role] += before.float().square().sum().item()
        self._before = []
        return {f"update_ratio/{role}": (moved[role] / size[role]) ** 0.5 for role in moved if size[role]}

    def _values(self) -> Iterator[tuple[str, Tensor]]:
        for _, role, parameter in roles(self._decoder):
            yield role, parameter.detach().flatten()[:_LOOKED_AT]


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
