"""Which rank holds the others up. Ranks wait for each other within a step, so all of them take equally long over it.

What tells them apart is the work that each does for itself: making its rows, and a few matrix products of a fixed size
that all compute at the same moment. A slow disk, a throttled or shared processor show in them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median_low

import torch

from vernacular.parallel.mesh import Mesh

_SIDE = {"cpu": 256, "cuda": 4096}
_PRODUCTS = 8
_SLOW = 1.5  # times the median, from where it is said on the terminal


class Stragglers:
    """Compares the ranks' own work, a line of metrics at a time."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._seconds = 0.0

    @contextmanager
    def own_work(self) -> Iterator[None]:
        """Around what a rank does in every step without the others."""
        begun = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - begun

    def measure(self, steps: int) -> dict[str, float | None]:
        """`slowest_rank`, and its own work of a step over the median rank's, over the steps since the last call."""
        seconds, self._seconds = self._seconds / max(1, steps), 0.0
        if self._mesh.sizes.world == 1:
            return {}
        self._mesh.wait()
        ranks = [own for (own,) in self._mesh.gather(seconds + self._time_products())]
        return {
            "slowest_rank": float(ranks.index(max(ranks))),
            "slowest_over_median": max(ranks) / median_low(ranks),
        }

    def warning(self, line: Mapping[str, float | None]) -> str | None:
        """What to say of a line of metrics: a rank that is much slower than the others."""
        ratio = line.get("slowest_over_median")
        if ratio is None or ratio < _SLOW:
            return None
        return (
            f"rank {line['slowest_rank']:.0f} is slow: rows and products take it {ratio:.1f} × the median rank's time"
        )

    def _time_products(self) -> float:
        device = self._mesh.device
        side = _SIDE[device.type]
        matrix = torch.ones(side, side, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
        matrix @ matrix
        self._finish()
        begun = time.perf_counter()
        for _ in range(_PRODUCTS):
            matrix @ matrix
        self._finish()
        return time.perf_counter() - begun

    def _finish(self) -> None:
        if self._mesh.device.type == "cuda":
            torch.cuda.synchronize(self._mesh.device)
