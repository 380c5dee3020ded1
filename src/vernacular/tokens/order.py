"""The order of the data: which rows make up a global batch is a function of the seed and the step, nothing else.

Each epoch is a fresh permutation of the rows, computed row by row (a Feistel network over the next power of four,
walked until it lands on a row): no list of rows is ever shuffled or stored, so a restart needs only the step.
Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains (2002), the generalised-Feistel cycle-walking cipher.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_bytes
from vernacular.tokens.apportionment import Apportionment
from vernacular.tokens.mixture import Phase, describe_phases

_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


class RowOrder(Protocol):
    """Which rows make up each global batch, and how much of the data they are."""

    def indices(self, step: int, rank: int = 0, world: int = 1) -> list[int]:
        """Rows of one rank's slice of the global batch of `step` (from 0). The slices are contiguous, in rank order."""
        ...

    def account(self, step: int) -> dict[str, CellAccount]:
        """By cell of the mixture, what was read before `step`; empty without a mixture."""
        ...

    def describe(self) -> tuple[str, ...]:
        """What each phase of the mixture gives, a sentence each; none without a mixture."""
        ...


class CellAccount(NamedTuple):
    """Rows of a cell that were read, and how often that is the whole of it."""

    rows: int
    epochs: float


class Order:
    """All rows alike: each epoch is one permutation of them.

    Args:
        num_rows: rows in an epoch.
        batch_size: rows in a global batch, over all ranks.
        seed: another seed is another order.
    """

    def __init__(self, num_rows: int, batch_size: int, seed: int) -> None:
        for name, value in (("num_rows", num_rows), ("batch_size", batch_size)):
            if value < 1:
                raise UserError(f"{name} is {value}; an order needs at least 1", where=name)
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed

    def indices(self, step: int, rank: int = 0, world: int = 1) -> list[int]:
        """Rows of one rank's slice of the global batch of `step` (from 0). The slices are contiguous, in rank order."""
        first, stop = rank_slice(step, self.batch_size, rank, world)
        return rows_at(np.arange(first, stop, dtype=np.uint64), self.num_rows, (self.seed,)).tolist()

    def account(self, step: int) -> dict[str, CellAccount]:
        """Nothing: there are no cells."""
        return {}

    def describe(self) -> tuple[str, ...]:
        """Nothing: there are no phases."""
        return ()

    def epoch(self, step: int) -> float:
        """How many epochs are done before `step`."""
        return step * self.batch_size / self.num_rows


class MixtureOrder:
    """Rows of several cells, each of which has its share of every stretch of the run, and epochs of its own.

    Rows are numbered through all cells, in their order. A cell's k-th row of the run is the k-th of its epochs'
    permutations, which depend on the seed and the cell's name alone: they stay when other cells come or go.

    Args:
        sizes: rows of each cell in an epoch.
        phases: rows of each cell in each phase; the last goes on beyond its end.
        batch_size: rows in a global batch, over all ranks.
        seed: another seed is another order.
    """

    def __init__(self, sizes: Mapping[str, int], phases: Sequence[Phase], batch_size: int, seed: int) -> None:
        self.sizes = dict(sizes)
        self.phases = tuple(phases)
        self.batch_size = batch_size
        self.seed = seed
        self._first_row = np.cumsum([0, *self.sizes.values()], dtype=np.int64)
        self._shares = [Apportionment([phase.rows[cell] for cell in self.sizes]) for phase in self.phases]
        ends = np.cumsum([[phase.rows[cell] for cell in self.sizes] for phase in self.phases], axis=0)
        self._begun: NDArray[np.int64] = np.concatenate([np.zeros((1, len(self.sizes)), dtype=np.int64), ends[:-1]])
        self._keys = [int(sha256_bytes(cell.encode("utf-8"))[:15], 16) for cell in self.sizes]

    def indices(self, step: int, rank: int = 0, world: int = 1) -> list[int]:
        """Rows of one rank's slice of the global batch of `step` (from 0). The slices are contiguous, in rank order."""
        first, stop = rank_slice(step, self.batch_size, rank, world)
        phase = self._phase_at(first)  # phases begin with a step, so a slice lies in one
        start = self.phases[phase].first
        cells, ordinals = self._shares[phase].assign(first - start, stop - start)
        rows = np.empty(stop - first, dtype=np.int64)
        for cell, size in enumerate(self.sizes.values()):
            chosen = cells == cell
            if chosen.any():
                places = (ordinals[chosen] + self._begun[phase, cell]).astype(np.uint64)
                rows[chosen] = rows_at(places, size, (self.seed, self._keys[cell])) + self._first_row[cell]
        return rows.tolist()

    def account(self, step: int) -> dict[str, CellAccount]:
        """Rows and epochs of each cell before `step`."""
        slot = step * self.batch_size
        phase = self._phase_at(slot)
        within = self._shares[phase].prefix(slot - self.phases[phase].first)
        read = [int(begun) + more for begun, more in zip(self._begun[phase], within, strict=True)]
        return {
            cell: CellAccount(rows, rows / size) for (cell, size), rows in zip(self.sizes.items(), read, strict=True)
        }

    def describe(self) -> tuple[str, ...]:
        """What each phase gives, and which cells are capped."""
        return describe_phases(self.phases, self.sizes)

    def _phase_at(self, slot: int) -> int:
        return bisect_right([phase.first for phase in self.phases], slot) - 1


def rank_slice(step: int, batch_size: int, rank: int, world: int) -> tuple[int, int]:
    """From which slot up to which a rank reads in a step; slots are counted through all steps."""
    if batch_size % world:
        raise UserError(
            f"a batch of {batch_size} rows cannot be shared out evenly among {world} ranks",
            where="batch_size",
            fix=f"make it a multiple of {world}",
        )
    share = batch_size // world
    first = step * batch_size + rank * share
    return first, first + share


def rows_at(positions: NDArray[np.uint64], num_rows: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    """The rows at positions of an endless row of epochs, each a permutation of its own."""
    epochs, places = np.divmod(positions, np.uint64(num_rows))
    rows = np.empty(len(positions), dtype=np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        rows[chosen] = permute(places[chosen], num_rows, key=(*key, int(epoch)))
    return rows


def permute(places: NDArray[np.uint64], size: int, key: tuple[int, ...]) -> NDArray[np.uint64]:
    """Where a permutation of range(size), chosen by `key`, sends each of `places`. O(1) for each, whatever the size."""
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    round_keys = _round_keys(key)
    result = _feistel(places.astype(np.uint64), half, round_keys)
    outside = result >= size
    while outside.any():
        result[outside] = _feistel(result[outside], half, round_keys)
        outside = result >= size
    return result


def _feistel(values: NDArray[np.uint64], half: np.uint64, round_keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for round_key in round_keys:
        left, right = right, left ^ (_mix(right + round_key) & mask)
    return (left << half) | right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: every bit of the input stirs every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _round_keys(key: tuple[int, ...]) -> NDArray[np.uint64]:
    state = np.zeros(1, dtype=np.uint64)
    for part in key:
        state = _mix(state + np.array([(part + 1) * _GOLDEN & _MASK], dtype=np.uint64))
    steps = np.array([(number + 1) * _GOLDEN & _MASK for number in range(_ROUNDS)], dtype=np.uint64)
    return _mix(state + steps)
