"""Which of several cells each slot of a long sequence goes to, such that at any moment every cell has had its share.

The sequence is a function of the slot's number alone. It is cut into blocks. How many slots a cell has had before a
block comes from halving the cells again and again, each time rounding the left half's part: that costs the number of
cells, wherever the block lies. Within a block, a cell's j-th slot of n must lie where its even share would put it, from
floor(j · L / n) up to ceil((j + 1) · L / n) of the block's L slots, and the slot with the earliest end goes first.
Sources: Liu and Layland, Scheduling Algorithms for Multiprogramming (1973), earliest deadline first; Baruah et al.,
Proportionate Progress (1996), the windows; with them no prefix of a block is a whole slot away from the even share.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

# A pattern that repeats within so many slots is a block: its beginning needs no rounding.
_LONGEST_PATTERN = 1 << 16
_BLOCK = 1 << 12

Integers = NDArray[np.int64]


class Apportionment:
    """A sequence of slots shared out among cells. Beyond its end it begins again.

    After n slots a cell has had its even share, `counts[cell] · n / sum(counts)`, to less than one slot where the
    pattern of the counts (their sum over their greatest common divisor) is at most 65,536 slots long; elsewhere to less
    than two.

    Args:
        counts: how many slots each cell gets in all; at least one cell has some.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self._counts = list(counts)
        self.length = sum(counts)
        pattern = self.length // math.gcd(*counts)
        self._block = pattern if pattern <= _LONGEST_PATTERN else _BLOCK
        self._largest_first = sorted((cell for cell, count in enumerate(counts) if count), key=lambda c: -counts[c])
        self._sequence = lru_cache(maxsize=4)(_even_sequence)

    def prefix(self, slots: int) -> list[int]:
        """How many of the first `slots` slots each cell has had."""
        rounds, slots = divmod(slots, self.length)
        block = slots // self._block
        before, cells = self._at(block)
        within = np.bincount(cells[: slots - block * self._block], minlength=len(self._counts))
        return [
            rounds * count + first + int(more) for count, first, more in zip(self._counts, before, within, strict=True)
        ]

    def assign(self, first: int, stop: int) -> tuple[Integers, Integers]:
        """The cell of each of the slots from `first` up to `stop`, and how many slots that cell has had before it."""
        found: list[tuple[Integers, Integers]] = []
        while first < stop:
            rounds, slot = divmod(first, self.length)
            block, start = divmod(slot, self._block)
            before, cells = self._at(block)
            end = min(len(cells), start + stop - first)
            ordinals = _ordinals(cells[:end], len(self._counts))[start:]
            chosen = cells[start:end]
            base = np.array([rounds * count + had for count, had in zip(self._counts, before, strict=True)])
            found.append((chosen, base[chosen] + ordinals))
            first += end - start
        cells_found, ordinals_found = zip(*found, strict=True)
        return np.concatenate(cells_found), np.concatenate(ordinals_found)

    def _at(self, block: int) -> tuple[list[int], Integers]:
        """What each cell has had before a block, and the cells of the block's slots."""
        before = self._shared_out(block * self._block)
        after = self._shared_out(min((block + 1) * self._block, self.length))
        return before, self._sequence(tuple(b - a for a, b in zip(before, after, strict=True)))

    def _shared_out(self, slots: int) -> list[int]:
        """Parts of `slots` that never fall as `slots` grows, and are the cells' counts at the sequence's end."""
        parts = [0] * len(self._counts)
        waiting = [(self._largest_first, slots)]
        while waiting:
            cells, mine = waiting.pop()
            if len(cells) == 1:
                parts[cells[0]] = mine
                continue
            sums = list(accumulate(self._counts[cell] for cell in cells))
            total = sums[-1]
            middle = min(range(1, len(cells)), key=lambda place: abs(2 * sums[place - 1] - total))
            to_left = (2 * mine * sums[middle - 1] + total) // (2 * total)
            waiting += [(cells[:middle], to_left), (cells[middle:], mine - to_left)]
        return parts


def _even_sequence(counts: tuple[int, ...]) -> Integers:
    """The cells of sum(counts) slots, every prefix as near to even as whole slots allow."""
    length = sum(counts)
    given = [0] * len(counts)
    coming = [(0, cell) for cell, count in enumerate(counts) if count]
    ready: list[tuple[int, int]] = []
    cells = np.empty(length, dtype=np.int64)
    for slot in range(length):
        while coming and coming[0][0] <= slot:
            _, cell = heapq.heappop(coming)
            heapq.heappush(ready, (-(-(given[cell] + 1) * length // counts[cell]), cell))
        _, cell = heapq.heappop(ready)
        cells[slot] = cell
        given[cell] += 1
        if given[cell] < counts[cell]:
            heapq.heappush(coming, (given[cell] * length // counts[cell], cell))
    return cells


def _ordinals(cells: Integers, num_cells: int) -> Integers:
    """For each place, how often its cell stands before it."""
    order = np.argsort(cells, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=num_cells))[:-1]])
    ordinals = np.empty(len(cells), dtype=np.int64)
    ordinals[order] = np.arange(len(cells)) - starts[cells[order]]
    return ordinals
