"""The order of the data: which rows make up a global batch is a function of the seed and the step, nothing else.

Each epoch is a fresh permutation of the rows (`epochs.py`), computed row by row: no list of rows is ever shuffled or
stored, so a restart needs only the step.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_bytes
from vernacular.tokens.apportionment import Apportionment
from vernacular.tokens.epochs import Epochs, WholeEpochs
from vernacular.tokens.mixture import Phase, describe_phases


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

    def upcoming(self, step: int) -> list[int]:
        """The shards that `step` and the steps after it read, those needed first at the front.

        Shards are numbered as the rows are, through all cells in their order.
        """
        ...

    def bytes_needed(self, sizes: Sequence[int]) -> int:
        """Bytes of the shards that `upcoming` gives, at most, by the bytes of each shard."""
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
        epochs: how an epoch is shuffled; None: as a whole.
    """

    def __init__(self, num_rows: int, batch_size: int, seed: int, epochs: Epochs | None = None) -> None:
        for name, value in (("num_rows", num_rows), ("batch_size", batch_size)):
            if value < 1:
                raise UserError(f"{name} is {value}; an order needs at least 1", where=name)
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed
        self.epochs = epochs or WholeEpochs(num_rows)

    def indices(self, step: int, rank: int = 0, world: int = 1) -> list[int]:
        """Rows of one rank's slice of the global batch of `step` (from 0). The slices are contiguous, in rank order."""
        first, stop = rank_slice(step, self.batch_size, rank, world)
        return self.epochs.rows_at(np.arange(first, stop, dtype=np.uint64), (self.seed,)).tolist()

    def account(self, step: int) -> dict[str, CellAccount]:
        """Nothing: there are no cells."""
        return {}

    def describe(self) -> tuple[str, ...]:
        """Nothing: there are no phases."""
        return ()

    def upcoming(self, step: int) -> list[int]:
        """The shards of the window that a step begins in, and of the next."""
        return [*chain.from_iterable(self.epochs.upcoming(step * self.batch_size, (self.seed,)))]

    def bytes_needed(self, sizes: Sequence[int]) -> int:
        """As `RowOrder`."""
        return self.epochs.bytes_needed(sizes)

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
        epochs: how each cell's epochs are shuffled; None: as a whole.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        phases: Sequence[Phase],
        batch_size: int,
        seed: int,
        epochs: Mapping[str, Epochs] | None = None,
    ) -> None:
        self.sizes = dict(sizes)
        self._epochs = [WholeEpochs(size) if epochs is None else epochs[cell] for cell, size in self.sizes.items()]
        self._first_shard = np.cumsum([0, *(cell.num_shards for cell in self._epochs)], dtype=np.int64).tolist()
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
        for cell, epochs in enumerate(self._epochs):
            chosen = cells == cell
            if chosen.any():
                places = (ordinals[chosen] + self._begun[phase, cell]).astype(np.uint64)
                rows[chosen] = epochs.rows_at(places, (self.seed, self._keys[cell])) + self._first_row[cell]
        return rows.tolist()

    def account(self, step: int) -> dict[str, CellAccount]:
        """Rows and epochs of each cell before `step`."""
        read = self._rows_before(step)
        return {
            cell: CellAccount(rows, rows / size) for (cell, size), rows in zip(self.sizes.items(), read, strict=True)
        }

    def describe(self) -> tuple[str, ...]:
        """What each phase gives, and which cells are capped."""
        return describe_phases(self.phases, self.sizes)

    def upcoming(self, step: int) -> list[int]:
        """The shards of each cell's window that a step begins in, then of the windows after them.

        Cells without a row in the phase of the step are left out.
        """
        counts = self.phases[self._phase_at(step * self.batch_size)].rows.values()
        windows: list[tuple[list[int], ...]] = []
        for cell, (count, rows) in enumerate(zip(counts, self._rows_before(step), strict=True)):
            if count:
                found = self._epochs[cell].upcoming(rows, (self.seed, self._keys[cell]))
                windows.append(tuple([self._first_shard[cell] + shard for shard in window] for window in found))
        return [shard for window in zip(*windows, strict=True) for shards in window for shard in shards]

    def bytes_needed(self, sizes: Sequence[int]) -> int:
        """As `RowOrder`; of cells that no phase reads, none."""
        return sum(
            epochs.bytes_needed(sizes[self._first_shard[cell] : self._first_shard[cell + 1]])
            for cell, (name, epochs) in enumerate(zip(self.sizes, self._epochs, strict=True))
            if any(phase.rows[name] for phase in self.phases)
        )

    def _rows_before(self, step: int) -> list[int]:
        """Rows of each cell that were read before a step."""
        slot = step * self.batch_size
        phase = self._phase_at(slot)
        within = self._shares[phase].prefix(slot - self.phases[phase].first)
        return [int(begun) + more for begun, more in zip(self._begun[phase], within, strict=True)]

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
