"""A permutation of a range, chosen by a key, computed place by place: nothing is shuffled, nothing is stored.

A Feistel network over the next power of four, walked until it lands within the range.
Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains (2002), the generalised-Feistel cycle-walking cipher.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


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
