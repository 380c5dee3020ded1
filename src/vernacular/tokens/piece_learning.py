"""Byte-pair learning over words that are cut into tokens already: which two neighbours to join next.

Source: Sennrich, Haddow and Birch, Neural Machine Translation of Rare Words with Subword Units (arXiv 1508.07909);
pairs are kept in a heap and counted anew only in the words that a merge changes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

from vernacular.foundation.progress import progress

Pair = tuple[int, int]


def learn_merges(
    words: Mapping[tuple[int, ...], int],
    first_id: int,
    most: int,
    *,
    min_frequency: int,
    may_merge: Callable[[int, int], bool],
) -> list[Pair]:
    """The pairs to join, most frequent first, each joined into the next new id.

    Equal counts go by the ids, so the same words give the same merges.

    Args:
        words: how often each word, a sequence of ids, occurs.
        first_id: the id of the first new token.
        most: how many merges to make.
        min_frequency: how often a pair must occur.
        may_merge: whether two ids may become one token; asked once, before the pair's turn, and obeyed from then on.
            On True the pair is taken, and the next id is its token.

    Returns:
        The pairs, at most `most`, fewer where the words support no more.
    """
    pairs = _Pairs(words)
    merges: list[Pair] = []
    with progress(doing="learning pieces", total=most, unit="pieces") as bar:
        while len(merges) < most:
            found = pairs.most_frequent()
            if found is None or pairs.counts[found] < min_frequency:
                break
            if not may_merge(*found):
                pairs.ban(found)
                continue
            pairs.join(found, first_id + len(merges))
            merges.append(found)
            bar.update(1)
    return merges


class _Pairs:
    """Neighbours in all words, with their counts and the words they stand in."""

    def __init__(self, words: Mapping[tuple[int, ...], int]) -> None:
        self._words = [list(word) for word in words]
        self._times = list(words.values())
        self.counts: dict[Pair, int] = {}
        self._places: dict[Pair, set[int]] = {}
        self._banned: set[Pair] = set()
        for place in range(len(self._words)):
            self._count(place, 1)
        self._heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self._heap)

    def most_frequent(self) -> Pair | None:
        """The pair with the highest count that is not banned; None where no pair is left."""
        while self._heap:
            count, pair = self._heap[0]
            now = self.counts.get(pair, 0)
            if pair in self._banned or not now:
                heapq.heappop(self._heap)
            elif now != -count:
                heapq.heapreplace(self._heap, (-now, pair))
            else:
                return pair
        return None

    def ban(self, pair: Pair) -> None:
        """Never offer this pair again."""
        self._banned.add(pair)
        self._places.pop(pair, None)

    def join(self, pair: Pair, token: int) -> None:
        """Replace the pair by the token, from left to right, in every word it stands in."""
        grown: set[Pair] = set()
        for place in sorted(self._places.pop(pair)):
            self._count(place, -1)
            self._words[place] = _joined(self._words[place], pair, token)
            grown.update(self._count(place, 1))
        self.counts.pop(pair, None)
        for one in grown:
            heapq.heappush(self._heap, (-self.counts[one], one))

    def _count(self, place: int, sign: int) -> Iterable[Pair]:
        """Count the word's pairs in (1) or out (-1); returns them."""
        word, times = self._words[place], sign * self._times[place]
        pairs = list(pairwise(word))
        for pair in pairs:
            self.counts[pair] = self.counts.get(pair, 0) + times
            if sign > 0 and pair not in self._banned:
                self._places.setdefault(pair, set()).add(place)
        return pairs


def _joined(word: list[int], pair: Pair, token: int) -> list[int]:
    left, right = pair
    joined: list[int] = []
    position = 0
    while position < len(word):
        if word[position] == left and position + 1 < len(word) and word[position + 1] == right:
            joined.append(token)
            position += 2
        else:
            joined.append(word[position])
            position += 1
    return joined
