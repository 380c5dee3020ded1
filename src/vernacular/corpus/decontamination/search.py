"""The search of a batch of documents: which items each holds, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from vernacular.corpus.configuration import CurateConfiguration, Decontamination
from vernacular.corpus.decontamination.benchmark import Benchmark
from vernacular.corpus.decontamination.index import build_index
from vernacular.corpus.decontamination.passages import Passages, find_passages, index_of, without_passages
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json, write_json
from vernacular.foundation.ledger import Ledger

REASON = "contaminated"
ITEMS = pa.list_(pa.uint32())
"""The items a document held when it was searched, counted through all benchmarks."""
_PART, _NAMES = "benchmarks", "names.json"
# The index is mapped from disk and read by all workers; so much of the memory allowed may it take.
_SHARE_OF_MEMORY = 4


def prepare_search(benchmarks: Sequence[Benchmark], configuration: CurateConfiguration, ledger: Ledger) -> Path:
    """Make the index of benchmarks, unless that is done; returns its folder.

    Raises:
        UserError: it would take too much of the memory allowed.
    """
    assert configuration.decontamination is not None
    folder = ledger.part(_PART)
    if ledger.finished(_PART) is None:
        index = build_index(benchmarks, configuration.decontamination, configuration.normalisation)
        if index.num_bytes > configuration.engine.memory_bytes // _SHARE_OF_MEMORY:
            raise UserError(
                f"the benchmarks' index of {index.num_bytes / 1e9:.1f} GB takes more than a quarter of the memory",
                where="engine.memory",
                fix="allow more memory, or search for fewer tasks",
            )
        write_json(folder / _NAMES, [[benchmark.name, len(benchmark.items)] for benchmark in benchmarks])
        ledger.finish(_PART, [*index.save(folder), folder / _NAMES], {})
    return folder


def search_folder(ledger: Ledger) -> Path:
    """Where `prepare_search` put the index."""
    return ledger.folder / _PART


def decontaminate(
    texts: list[str], reasons: list[str | None], details: list[str | None], settings: Decontamination, folder: Path
) -> pa.Array:
    """Search T texts for the items of an index, and do what the settings say: all three lists may change.

    Args:
        texts: the texts.
        reasons: why each one is removed already; such are not searched.
        details: the particulars.
        settings: what is to be done.
        folder: of the index.

    Returns:
        list<uint32> [T], the items that each text held; null where it held none.
    """
    searched = pa.array([text if reason is None else "" for text, reason in zip(texts, reasons, strict=True)])
    index = index_of(folder)
    found = find_passages(searched.cast(pa.large_string()), index)
    held: list[list[int] | None] = [None] * len(texts)
    bounds = np.searchsorted(found.texts, np.arange(len(texts) + 1))
    spans = np.searchsorted(found.span_texts, np.arange(len(texts) + 1))
    for number in np.unique(found.texts).tolist():
        chosen = slice(bounds[number], bounds[number + 1])
        held[number] = found.items[chosen].tolist()
        if settings.action == "cut":
            own = found.spans[spans[number] : spans[number + 1]]
            texts[number] = without_passages(texts[number], own, settings)
        if settings.action == "drop" or not texts[number]:
            reasons[number], details[number] = REASON, _said(found, chosen, index.owned, folder)
    return pa.array(held, ITEMS)


def _said(found: Passages, chosen: slice, owned: np.ndarray, folder: Path) -> str:
    """The item that stands in a text most completely, and how many others."""
    shares = found.covered[chosen] / owned[found.items[chosen]]
    best = int(np.argmax(shares))
    number = int(found.items[chosen][best])
    names, counts = zip(*read_json(folder / _NAMES), strict=True)
    place = int(np.searchsorted(np.cumsum(counts), number, side="right"))
    name, number = names[place], number - sum(counts[:place])
    others = f"; and {len(shares) - 1} more" if len(shares) > 1 else ""
    return f"{name} item {number}, {shares[best]:.2f} of it{others}"
