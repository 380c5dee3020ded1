"""How often each word of a text occurs, in bounded memory: all that learning a vocabulary needs to know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_KEPT_SHARE = 2  # half of the room is free again after rare words were dropped


@dataclass
class WordCounts:
    """Counts of words, as `cut` makes them of a text.

    When there are more than `most` different words, the rarest are dropped until half of them are left. A word that
    is dropped may come back and starts from nothing: each count is short by at most `shortfall`, the sum of the
    greatest counts that were dropped each time. Nothing is dropped, and every count exact, while `shortfall` is 0.
    Source of the bound: Manku and Motwani, Approximate Frequency Counts over Data Streams (2002), with the fixed
    share of the stream replaced by a fixed number of words.

    Attributes:
        cut: the words of a text.
        most: different words that are kept at one time.
        counts: how often each word was seen.
        shortfall: by how much a count can be too low.
        dropped: occurrences of words that were dropped.
    """

    cut: Callable[[str], Iterable[str]]
    most: int
    counts: Counter[str] = field(default_factory=Counter)
    shortfall: int = 0
    dropped: int = 0

    def add(self, texts: Iterable[str]) -> None:
        """Count the words of some texts."""
        for text in texts:
            self.counts.update(self.cut(text))
            if len(self.counts) > self.most:
                self._drop_rarest()

    def _drop_rarest(self) -> None:
        by_count = Counter(self.counts.values())
        left, least = len(self.counts), 0
        while left > self.most // _KEPT_SHARE:
            least += 1
            left -= by_count[least]
        self.dropped += sum(count * words for count, words in by_count.items() if count <= least)
        self.shortfall += least
        self.counts = Counter({word: count for word, count in self.counts.items() if count > least})
