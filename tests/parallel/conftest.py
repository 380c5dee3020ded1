"""The runs in plain PyTorch that all ways of spreading are held against."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

import tiny_parallel


@pytest.fixture(scope="session")
def alone() -> Callable[[str], tiny_parallel.Curve]:
    """`alone("dense")`: the run of that model in plain PyTorch."""
    return cache(tiny_parallel.train_alone)
