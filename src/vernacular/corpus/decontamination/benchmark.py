"""Benchmarks as a corpus is searched for them: their items' text, and the hashes that evaluation knows them by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vernacular.foundation.files import sha256_json


@dataclass(frozen=True)
class Item:
    """One item.

    Attributes:
        number: its place among the benchmark's items, as an evaluation's record counts them.
        hash: of its data, as an evaluation's record has it.
        question: what stands before the answer, cut where the template and the data's fields meet.
        answer: the right answer; empty where there is none.
    """

    number: int
    hash: str
    question: tuple[str, ...]
    answer: str = ""


@dataclass(frozen=True)
class Benchmark:
    """The items of one task.

    Attributes:
        name: the task's.
        items: all of them, in order.
    """

    name: str
    items: tuple[Item, ...]

    @property
    def data_hash(self) -> str:
        """The hash of all items: by it an evaluation knows that these are its own."""
        return hash_of_data([item.hash for item in self.items])


def hash_of_data(item_hashes: Sequence[str]) -> str:
    """The hash of a task's items, from theirs in order."""
    return sha256_json(list(item_hashes))
