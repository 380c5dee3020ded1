"""The epochs of a cell's rows: which row stands at a place of an endless sequence, each epoch a shuffle of its own.

Shuffled as a whole, an epoch reads all shards at all times. Shuffled in windows, it reads a few shards at a time: the
shards are put in an order of the epoch's own, cut into windows of about as many shards, and the rows of a window's
shards shuffled together. Either way a row is computed from its place; what is remembered grows with the shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError
from vernacular.tokens.permutation import permute

Integers = NDArray[np.int64]
Key = tuple[int, ...]

# Set the keys of shards and of windows apart from those of whole epochs.
_SHARDS, _WINDOWS = 1, 2


class Epochs(Protocol):
    """Rows of one cell, over and over; `key` chooses among all orders."""

    @property
    def num_shards(self) -> int:
        """Shards that the rows lie in; 0 where nobody asked."""
        ...

    def rows_at(self, places: NDArray[np.uint64], key: Key) -> Integers:
        """The rows at places of the endless sequence, [len(places)]."""
        ...

    def upcoming(self, place: int, key: Key) -> tuple[list[int], list[int]]:
        """The shards that are being read at a place, and those that come after them."""
        ...

    def bytes_needed(self, sizes: Sequence[int]) -> int:
        """Bytes of what is read at a time and of what comes next, at most, by the bytes of each shard."""
        ...


class WholeEpochs:
    """Each epoch is one permutation of all rows.

    Args:
        num_rows: rows in an epoch.
        num_shards: shards that they lie in.
    """

    def __init__(self, num_rows: int, num_shards: int = 0) -> None:
        self.num_rows, self.num_shards = num_rows, num_shards

    def rows_at(self, places: NDArray[np.uint64], key: Key) -> Integers:
        """As `Epochs`."""
        epochs, within = np.divmod(places, np.uint64(self.num_rows))
        rows = np.empty(len(places), dtype=np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            rows[chosen] = permute(within[chosen], self.num_rows, key=(*key, int(epoch)))
        return rows

    def upcoming(self, place: int, key: Key) -> tuple[list[int], list[int]]:
        """All shards, at any time."""
        return list(range(self.num_shards)), []

    def bytes_needed(self, sizes: Sequence[int]) -> int:
        """As `Epochs`."""
        return sum(sizes)


class _Epoch(NamedTuple):
    """How an epoch is laid out.

    Attributes:
        shards: their order, [S].
        starts: rows before each of them, in that order, and at last all, [S + 1].
        windows: where each window begins, counted in shards, and at last all, [W + 1].
    """

    shards: Integers
    starts: Integers
    windows: Integers


class WindowedEpochs:
    """Each epoch is a shuffle of the shards, and a shuffle of the rows within each window of them.

    Args:
        rows_of_shard: rows that lie in each shard; a row lies in one.
        window: shards that are shuffled together, at most.
    """

    def __init__(self, rows_of_shard: Sequence[int], window: int) -> None:
        if window < 1:
            raise UserError(
                f"a window of {window} shards holds none", where="shuffle_shards", fix="set it to 1 or more"
            )
        self._rows: Integers = np.asarray(rows_of_shard, dtype=np.int64)
        self._first_row = np.cumsum([0, *rows_of_shard], dtype=np.int64)
        self.num_rows, self.num_shards, self.window = int(self._first_row[-1]), len(self._rows), window
        self._epoch = lru_cache(maxsize=2)(self._lay_out)

    def rows_at(self, places: NDArray[np.uint64], key: Key) -> Integers:
        """As `Epochs`."""
        epochs, within = np.divmod(places, np.uint64(self.num_rows))
        rows = np.empty(len(places), dtype=np.int64)
        for number in np.unique(epochs):
            epoch = self._epoch((*key, int(number)))
            chosen = epochs == number
            windows = self._windows_at(epoch, within[chosen].astype(np.int64))
            found = np.empty(len(windows), dtype=np.int64)
            for window in np.unique(windows):
                here = windows == window
                found[here] = self._rows_in(epoch, int(window), within[chosen][here], (*key, int(number)))
            rows[chosen] = found
        return rows

    def upcoming(self, place: int, key: Key) -> tuple[list[int], list[int]]:
        """As `Epochs`; after an epoch's last window comes the next one's first."""
        number, within = divmod(place, self.num_rows)
        epoch = self._epoch((*key, number))
        window = int(self._windows_at(epoch, np.array([within]))[0])
        if window + 2 < len(epoch.windows):
            return self._shards_in(epoch, window), self._shards_in(epoch, window + 1)
        return self._shards_in(epoch, window), self._shards_in(self._epoch((*key, number + 1)), 0)

    def bytes_needed(self, sizes: Sequence[int]) -> int:
        """As `Epochs`: two windows of the largest shards."""
        return sum(sorted(sizes, reverse=True)[: 2 * self.window])

    def _lay_out(self, key: Key) -> _Epoch:
        places = np.arange(self.num_shards, dtype=np.uint64)
        shards = permute(places, self.num_shards, (*key, _SHARDS)).astype(np.int64)
        # Windows of even size: a last one of a single shard would shuffle little.
        count = -(-self.num_shards // self.window)
        windows = np.arange(count + 1, dtype=np.int64) * self.num_shards // count
        return _Epoch(shards, np.cumsum([0, *self._rows[shards]], dtype=np.int64), windows)

    def _windows_at(self, epoch: _Epoch, places: Integers) -> Integers:
        return np.searchsorted(epoch.starts[epoch.windows], places, side="right") - 1

    def _rows_in(self, epoch: _Epoch, window: int, places: NDArray[np.uint64], key: Key) -> Integers:
        first, stop = (int(epoch.starts[epoch.windows[place]]) for place in (window, window + 1))
        shuffled = permute(places - np.uint64(first), stop - first, (*key, _WINDOWS, window)).astype(np.int64) + first
        order = np.searchsorted(epoch.starts, shuffled, side="right") - 1
        return self._first_row[epoch.shards[order]] + shuffled - epoch.starts[order]

    def _shards_in(self, epoch: _Epoch, window: int) -> list[int]:
        first, stop = epoch.windows[window : window + 2]
        return [int(shard) for shard in epoch.shards[first:stop] if self._rows[shard]]
