"""Crews of processes, each started once and shared by all tests that need as many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

import tiny_parallel
from crew import Crew

Hire = Callable[[int], Crew]


@pytest.fixture(scope="session")
def hire() -> Iterator[Hire]:
    """`hire(4)`: a crew of four; a fresh one where a failed test has ended the last."""
    crews: dict[int, Crew] = {}

    def crew_of(size: int) -> Crew:
        if size not in crews or not all(process.is_alive() for process in crews[size].processes):
            crews[size] = Crew(size)
        return crews[size]

    yield crew_of
    for crew in crews.values():
        crew.stop()


@pytest.fixture(scope="session")
def alone() -> Callable[[str], tiny_parallel.Curve]:
    """`alone("dense")`: the run of that model in plain PyTorch."""
    return cache(tiny_parallel.train_alone)
