"""Which rank holds the others up. Ranks wait for each other within a step, so all of them take equally long over it.

What tells them apart is the work that each does for itself: making its rows, and a few matrix products of a fixed size
that all compute at the same moment. A slow disk, a throttled or shared processor show in them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median_low

import torch

from vernacular.parallel.mesh import Mesh

_SIDE = {"cpu": 256, "cuda": 4096}
_PRODUCTS, _ROUNDS = 8, 3
# It is said on the terminal where a rank takes so many times as long as the median, so many lines of metrics in a row.
_SLOW, _LINES = 1.5, 3


class Stragglers:
    """Compares the ranks' own work, a line of metrics at a time."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._seconds = 0.0
        self._slow: list[float] = []

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
        """What to say after a line of metrics, once a rank has been much slower than the others for some lines."""
        ratio = line.get("slowest_over_median")
        rank = line.get("slowest_rank")
        if ratio is None or rank is None:
            return None
        self._slow = [*(slow for slow in self._slow if slow == rank), rank] if ratio >= _SLOW else []
        if len(self._slow) < _LINES:
            return None
        self._slow = []
        return f"rank {rank:.0f} is slow: rows and products take it {ratio:.1f} × the median rank's time"

    def _time_products(self) -> float:
        device = self._mesh.device
        side = _SIDE[device.type]
        matrix = torch.ones(side, side, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
        fastest = math.inf
        for _ in range(_ROUNDS):
            self._finish()
            begun = time.perf_counter()
            for _ in range(_PRODUCTS):
                matrix @ matrix
            self._finish()
            fastest = min(fastest, time.perf_counter() - begun)
        return fastest

    def _finish(self) -> None:
        if self._mesh.device.type == "cuda":
            torch.cuda.synchronize(self._mesh.device)
