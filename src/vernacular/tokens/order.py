"""The order of the data: which rows make up a global batch is a function of the seed and the step, nothing else.

Each epoch is a fresh permutation of the rows, computed row by row (a Feistel network over the next power of four,
walked until it lands on a row): no list of rows is ever shuffled or stored, so a restart needs only the step.
Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains (2002), the generalised-Feistel cycle-walking cipher.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError

_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


class Order:
    """The rows of every step.

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
        if self.batch_size % world:
            raise UserError(
                f"a batch of {self.batch_size} rows cannot be shared out evenly among {world} ranks",
                where="batch_size",
                fix=f"make it a multiple of {world}",
            )
        share = self.batch_size // world
        first = step * self.batch_size + rank * share
        positions = np.arange(first, first + share, dtype=np.uint64)
        epochs, places = np.divmod(positions, np.uint64(self.num_rows))
        rows = np.empty(share, dtype=np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            rows[chosen] = permute(places[chosen], self.num_rows, key=(self.seed, int(epoch)))
        return [int(row) for row in rows]

    def epoch(self, step: int) -> float:
        """How many epochs are done before `step`."""
        return step * self.batch_size / self.num_rows


def permute(places: NDArray[np.uint64], size: int, key: tuple[int, int]) -> NDArray[np.uint64]:
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


def _round_keys(key: tuple[int, int]) -> NDArray[np.uint64]:
    state = np.zeros(1, dtype=np.uint64)
    for part in key:
        state = _mix(state + np.array([(part + 1) * _GOLDEN & _MASK], dtype=np.uint64))
    steps = np.array([(number + 1) * _GOLDEN & _MASK for number in range(_ROUNDS)], dtype=np.uint64)
    return _mix(state + steps)
