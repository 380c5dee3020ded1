"""The index of benchmarks: the runs of units by which their items are found again, in arrays that C reads.

A run is `size` consecutive units of an item's question, `size` by the script it begins in (data/overlaps.yaml). A piece
of a question that is shorter is one run by itself if it has half as many units; where no piece has, the question as a
whole is taken, then the question with its answer. What has no run even then cannot be searched for. Runs that stand in
more than half of a benchmark's items are its template, and no sign of any item.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from vernacular.corpus.codepoints import script_codes, script_table
from vernacular.corpus.configuration import Decontamination, Normalisation
from vernacular.corpus.decontamination.benchmark import Benchmark, Item
from vernacular.corpus.decontamination.units import MOST_UNITS, Units
from vernacular.corpus.languages import scripts
from vernacular.corpus.normalisation import normalise
from vernacular.foundation.errors import UserError, unknown_name

# Of items whose runs are the same in more than this share of them; in benchmarks of fewer items nothing is a template.
_TEMPLATE, _FEWEST_ITEMS = 0.5, 4
MADE_LAST = "owned"
_SPARE_BITS = 1  # tables have so many times two slots a key at least


@dataclass(frozen=True)
class Index:
    """What is searched for, of I items in all benchmarks together and R different runs.

    Attributes:
        lengths: int64 [L], the lengths there are of runs, ascending.
        seeds: uint64 [2^s]; bit l is set where a run of `lengths[l]` units begins with `lengths[0]` units of this hash.
        starts: uint32 [2^b + 1]; where in `runs` the hashes begin whose first b bits are 0, 1, …
        runs: uint64 [R], hashes, ascending.
        posting_ends: int64 [R + 1]; run r stands in the items from `posting_ends[r]` to before `posting_ends[r + 1]` …
        posting_items: uint32 [P] … of this list, …
        posting_places: uint32 [P] … there at this unit.
        needed: uint32 [I], units in runs from which a document holds the item; 0 where it cannot be searched for.
        owned: uint32 [I], units in runs that it has.
    """

    lengths: np.ndarray
    seeds: np.ndarray
    starts: np.ndarray
    runs: np.ndarray
    posting_ends: np.ndarray
    posting_items: np.ndarray
    posting_places: np.ndarray
    needed: np.ndarray
    owned: np.ndarray

    @property
    def num_bytes(self) -> int:
        """Of all arrays."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    def save(self, folder: Path) -> list[Path]:
        """Write the arrays below a folder; returns the files."""
        paths = []
        for field in fields(self):
            paths.append(folder / f"{field.name}.npy")
            np.save(paths[-1], getattr(self, field.name))
        return paths

    @classmethod
    def load(cls, folder: Path) -> Index:
        """The arrays of a folder, mapped: all processes share them."""
        return cls(**{field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(cls)})


def build_index(benchmarks: Sequence[Benchmark], settings: Decontamination, normalisation: Normalisation) -> Index:
    """The index of all benchmarks' items, one after another.

    Raises:
        UserError: an override of `sizes` names no script, or is no length.
    """
    sizes = run_sizes(settings.sizes)
    coverage = defaults()["coverage"] if settings.coverage is None else settings.coverage
    gathered, first = [Runs.none()], 0
    for benchmark in benchmarks:
        found = _without_template(find_runs(benchmark.items, sizes, normalisation), len(benchmark.items))
        gathered.append(found.take(slice(None), first))
        first += len(benchmark.items)
    return _as_index(Runs.together(gathered), first, coverage, _least(sizes))


@functools.cache
def defaults() -> dict[str, Any]:
    """The table data/overlaps.yaml."""
    return yaml.safe_load((files("vernacular.corpus") / "data" / "overlaps.yaml").read_text(encoding="utf-8"))


def run_sizes(own: Mapping[str, int]) -> np.ndarray:
    """int64 [scripts]: units of a run that begins in each script of `script_codes()`, a recipe's `own` put in."""
    for code, size in own.items():
        if code not in scripts():
            raise unknown_name("script", code, scripts(), where="decontamination.sizes")
        if not 1 <= size <= MOST_UNITS:
            raise UserError(f"{size} units are no run", where=f"decontamination.sizes.{code}", fix=f"1 to {MOST_UNITS}")
    table = {**defaults()["sizes"], **own}
    return np.array([table.get(code, defaults()["default"]) for code in script_codes()], dtype=np.int64)


def _least(sizes: np.ndarray) -> int:
    """Units of the shortest run that can be: a piece of half the size."""
    return int(-(-sizes.min() // 2))


# ------------------------------------------------------------------------------------------------- runs of the items


@dataclass(frozen=True)
class Runs:
    """Runs of units, in items.

    Attributes:
        items: int64 [N], the item of each run.
        places: int64 [N], the unit of the item that it begins at.
        lengths: int64 [N], in units.
        hashes: uint64 [N].
        seeds: uint64 [N], hashes of the first units.
    """

    items: np.ndarray
    places: np.ndarray
    lengths: np.ndarray
    hashes: np.ndarray
    seeds: np.ndarray

    @classmethod
    def none(cls) -> Runs:
        """No runs."""
        numbers, hashes = np.zeros(0, np.int64), np.zeros(0, np.uint64)
        return cls(numbers, numbers, numbers, hashes, hashes)

    @classmethod
    def together(cls, several: Sequence[Runs]) -> Runs:
        """All of them."""
        return cls(*(np.concatenate([getattr(each, field.name) for each in several]) for field in fields(cls)))

    def take(self, chosen: np.ndarray | slice, first: int = 0) -> Runs:
        """Some of them, their items counted from `first` on."""
        columns = {field.name: getattr(self, field.name)[chosen] for field in fields(self)}
        return Runs(**{**columns, "items": columns["items"] + first})

    def covered(self, num_items: int) -> np.ndarray:
        """int64 [I]: units of each item that lie in its runs."""
        order = np.lexsort((self.places, self.items))
        items, begins = self.items[order], self.places[order]
        ends = begins + self.lengths[order]
        # As one number line, an item's units after another's.
        stride = int(ends.max(initial=0)) + 1
        until = np.maximum.accumulate(items * stride + ends)
        before = np.concatenate([[0], until[:-1]]) - items * stride
        return np.bincount(items, np.maximum(ends - np.maximum(begins, before), 0), num_items).astype(np.int64)


def find_runs(items: Sequence[Item], sizes: np.ndarray, normalisation: Normalisation) -> Runs:
    """The runs of items: of the pieces of their questions; where these are too short, of more of the item at once."""
    found = [Runs.none()]
    without = list(range(len(items)))
    for pieces_of in (_pieces, _question, _with_answer):
        owners = [number for number in without for _ in pieces_of(items[number])]
        texts = [text for number in without for text in pieces_of(items[number])]
        found.append(_runs_of(texts, np.array(owners, np.int64), sizes, normalisation))
        having = set(found[-1].items.tolist())
        without = [number for number in without if number not in having]
    return Runs.together(found)


def _pieces(item: Item) -> tuple[str, ...]:
    return item.question


def _question(item: Item) -> tuple[str, ...]:
    return ("\n".join(item.question),)


def _with_answer(item: Item) -> tuple[str, ...]:
    return ("\n".join((*item.question, item.answer)),)


def _runs_of(texts: Sequence[str], owners: np.ndarray, sizes: np.ndarray, normalisation: Normalisation) -> Runs:
    """The runs of texts, which belong to the items `owners` (int64 [T], ascending)."""
    normal, _ = normalise(pa.array(texts, pa.large_string()), normalisation)
    units = Units.of(normal)
    counts = np.diff(units.ends)
    size = sizes[script_table()[units.firsts]]
    left = np.repeat(units.ends[1:], counts) - np.arange(len(size))
    begins = np.flatnonzero(size <= left)
    lengths = size[begins]
    # Pieces in which no run fits, but half of one: they are a run by themselves.
    num_runs = np.bincount(np.repeat(np.arange(len(counts)), counts)[begins], minlength=len(counts))
    short = np.flatnonzero((num_runs == 0) & (counts > 0) & (counts <= MOST_UNITS))
    short = short[2 * counts[short] >= size[units.ends[:-1][short]]]
    begins = np.concatenate([begins, units.ends[:-1][short]])
    lengths = np.concatenate([lengths, counts[short]])
    items = np.repeat(owners, counts)[begins]
    firsts = np.full(int(owners.max(initial=-1)) + 1, len(size), np.int64)
    np.minimum.at(firsts, owners, units.ends[:-1])
    seeds = units.run_hashes(begins, np.full(len(begins), _least(sizes), np.int64))
    return Runs(items, begins - firsts[items], lengths, units.run_hashes(begins, lengths), seeds)


def _without_template(runs: Runs, num_items: int) -> Runs:
    """The runs that do not stand in most of a benchmark's items."""
    if num_items < _FEWEST_ITEMS:
        return runs
    _, hashes = np.unique(runs.hashes, return_inverse=True)
    in_items = np.unique(np.stack([hashes, runs.items], axis=1), axis=0)[:, 0]
    return runs.take(np.bincount(in_items)[hashes] <= _TEMPLATE * num_items if len(hashes) else slice(None))


# ---------------------------------------------------------------------------------------------------------- the index


def _as_index(runs: Runs, num_items: int, coverage: float, least: int) -> Index:
    runs = runs.take(np.lexsort((runs.places, runs.items, runs.hashes)))
    new = np.ones(len(runs.hashes), dtype=bool)
    new[1:] = runs.hashes[1:] != runs.hashes[:-1]
    different = np.flatnonzero(new)
    hashes = runs.hashes[different]
    start_bits = _bits(len(hashes))
    buckets = np.arange(1, 1 << start_bits, dtype=np.uint64) << np.uint64(64 - start_bits)
    # The shortest is there even if no run is as short: seeds are as long as it.
    lengths = np.union1d(runs.lengths, [least]).astype(np.int64)
    seed_bits = _bits(len(np.unique(runs.seeds)))
    seeds = np.zeros(1 << seed_bits, np.uint64)
    bits = np.uint64(1) << np.searchsorted(lengths, runs.lengths).astype(np.uint64)
    np.bitwise_or.at(seeds, runs.seeds & np.uint64((1 << seed_bits) - 1), bits)
    owned, longest = runs.covered(num_items), np.zeros(num_items, np.int64)
    np.maximum.at(longest, runs.items, runs.lengths)
    short = max(coverage, defaults()["coverage_of_short"])
    shares = np.where(owned < 2 * longest, short, coverage)
    return Index(
        lengths=lengths,
        seeds=seeds,
        starts=np.concatenate([[0], np.searchsorted(hashes, buckets), [len(hashes)]]).astype(np.uint32),
        runs=hashes,
        posting_ends=np.append(different, len(runs.hashes)).astype(np.int64),
        posting_items=runs.items.astype(np.uint32),
        posting_places=runs.places.astype(np.uint32),
        # A little less than the product, whose last bit is the machine's.
        needed=np.ceil(shares * owned - 1e-9).astype(np.uint32),
        owned=owned.astype(np.uint32),
    )


def _bits(keys: int) -> int:
    """Of a table with room for so many keys twice over, one at least."""
    return max(math.ceil(math.log2(max(keys, 1))) + _SPARE_BITS, 1)
