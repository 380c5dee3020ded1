"""The account of a decontamination: per benchmark, the items that were found and the documents they stood in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.decontamination.benchmark import Benchmark
from vernacular.corpus.decontamination.contamination import STANDINGS, Entry, TaskContamination
from vernacular.corpus.decontamination.index import Index
from vernacular.corpus.decontamination.passages import find_passages, index_of
from vernacular.corpus.decontamination.search import REASON
from vernacular.corpus.report import TRAIN


class Findings:
    """What the documents held, summed up as they are written.

    Args:
        benchmarks: what was searched for, in the order of the index.
        folder: of the index.
    """

    def __init__(self, benchmarks: Sequence[Benchmark], folder: Path) -> None:
        self._benchmarks = benchmarks
        self._index: Index = index_of(folder)
        self._firsts = np.cumsum([0, *(len(benchmark.items) for benchmark in benchmarks)])
        self._found = np.zeros(self._firsts[-1], dtype=bool)
        self._trained_on = np.zeros(self._firsts[-1], dtype=bool)
        self._documents: Counter[tuple[int, str]] = Counter()

    def add(self, rows: pa.Table) -> None:
        """Count rows with the columns text, items and outcome.

        A document of the training text that held items is searched once more as it is written: passages may have been
        cut out of it, and lines dropped that stand elsewhere.
        """
        holding = rows.filter(pc.is_valid(rows["items"])).select(["text", "items", "outcome"]).combine_chunks()
        for items, outcome in zip(holding["items"].to_pylist(), holding["outcome"].to_pylist(), strict=True):
            self._found[items] = True
            what = "dropped" if outcome == REASON else "kept" if outcome == TRAIN else "elsewhere"
            for place in np.unique(np.searchsorted(self._firsts, items, side="right") - 1).tolist():
                self._documents[place, what] += 1
        training = holding.filter(pc.equal(holding["outcome"], TRAIN))["text"].combine_chunks()
        if len(training):
            self._trained_on[find_passages(training.cast(pa.large_string()), self._index).items] = True

    def tasks(self) -> dict[str, TaskContamination]:
        """The items of each benchmark by standing."""
        found = {}
        for benchmark, owns in self._standings():
            items: dict[str, list[Entry]] = {standing: [] for standing in STANDINGS}
            for item, own in zip(benchmark.items, owns, strict=True):
                items[own].append((item.number, item.hash))
            found[benchmark.name] = TaskContamination(benchmark.data_hash, items)
        return found

    def _standings(self) -> Iterator[tuple[Benchmark, list[str]]]:
        contaminated, removed, clean, unknown = STANDINGS
        for place, benchmark in enumerate(self._benchmarks):
            own = slice(self._firsts[place], self._firsts[place + 1])
            chosen = np.select(
                [self._trained_on[own], self._found[own], self._index.owned[own] > 0],
                [contaminated, removed, clean],
                unknown,
            )
            yield benchmark, chosen.tolist()

    def report(self) -> dict[str, Any]:
        """Per benchmark: items by standing, and documents dropped, kept for training, or gone for other reasons."""
        return {
            benchmark.name: {
                "items": len(benchmark.items),
                **{standing: owns.count(standing) for standing in STANDINGS},
                "documents": {what: self._documents[place, what] for what in ("dropped", "kept", "elsewhere")},
            }
            for place, (benchmark, owns) in enumerate(self._standings())
        }
