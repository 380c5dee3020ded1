"""Which two neighbouring tokens to join next: the heart of byte-pair encoding, in C."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import MachineError
from vernacular.foundation.native import NativeLibrary

_POINTER, _WORD, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
_LIBRARY = NativeLibrary(
    "tokens",
    "routines that learn pairs of tokens",
    Path(__file__).parent,
    sources=("pair_learning.c",),
    signatures={
        "open_learner": (_POINTER, _POINTER, _POINTER, _WORD, _WORD, _POINTER),
        "best_pair": (_POINTER, _POINTER, _POINTER, _POINTER),
        "take_pair": (_POINTER, _INT, _INT, _INT),
        "close_learner": (_POINTER,),
    },
)


class Pair(NamedTuple):
    """Two tokens that stand side by side, by id, and how often they do."""

    left: int
    right: int
    times: int


class PairLearner:
    """Words cut into tokens, whose most frequent pair becomes a token, again and again.

    Source: Sennrich, Haddow and Birch, Neural Machine Translation of Rare Words with Subword Units (2016). Of pairs
    that occur equally often the one with the smallest ids is best: the same words give the same pairs in any order.
    A context manager, since the words lie outside of Python's memory.

    Args:
        ids: the words' tokens, one word after the other.
        lengths: how many of them each word has.
        counts: how often each word occurs.
        min_frequency: how often a pair must occur.

    Raises:
        MachineError: there is no C compiler, or no memory.
    """

    def __init__(
        self, ids: NDArray[np.int32], lengths: Sequence[int], counts: Sequence[int], *, min_frequency: int
    ) -> None:
        self._library = _library()
        self._learner = ctypes.c_void_p()
        starts = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        ids, counted = np.ascontiguousarray(ids, dtype=np.int32), np.array(counts, dtype=np.int64)
        arrays = (ids.ctypes.data, starts.ctypes.data, counted.ctypes.data)
        self._check(
            self._library.open_learner(*arrays, len(counted), max(1, min_frequency), ctypes.byref(self._learner))
        )

    def best(self) -> Pair | None:
        """The pair that occurs most; None where no pair occurs often enough."""
        left, right, count = ctypes.c_int32(), ctypes.c_int32(), ctypes.c_int64()
        found = (ctypes.byref(value) for value in (left, right, count))
        self._check(self._library.best_pair(self._learner, *found))
        return Pair(left.value, right.value, count.value) if count.value else None

    def join(self, pair: Pair, token: int) -> None:
        """Make the pair one token wherever it occurs; `token` may be one that there is already."""
        self._check(self._library.take_pair(self._learner, pair.left, pair.right, token))

    def pass_over(self, pair: Pair) -> None:
        """Never offer the pair again."""
        self._check(self._library.take_pair(self._learner, pair.left, pair.right, -1))

    def __enter__(self) -> PairLearner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._library.close_learner(self._learner)
        self._learner = ctypes.c_void_p()

    def _check(self, failed: int) -> None:
        if failed:
            self._close()
            raise MachineError(
                "there is not enough memory for learning pairs of tokens",
                fix="set sample_bytes or max_words lower, or use a machine with more memory",
            )


@functools.cache
def _library() -> ctypes.CDLL:
    return _LIBRARY.load()
