"""A claim: what was measured of ours, of the peer's, and what their ratio is to be. Every benchmark prints these."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from vernacular.foundation.machine import describe_machine


@dataclass(frozen=True)
class Claim:
    """One measured claim.

    Attributes:
        name: what is measured, with its unit and the peer's name.
        ours: our figure.
        peer: the peer's, measured beside it.
        goal: what is to hold, in words.
        ratio: ours divided by the peer's.
    """

    name: str
    ours: float
    peer: float
    goal: str
    ratio: float = field(init=False)
    machine: dict[str, Any] = field(default_factory=describe_machine)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", self.ours / self.peer)


def rates(amount: float, ours: Callable[[], object], peer: Callable[[], object], tries: int = 5) -> tuple[float, float]:
    """Amount per second of ours and of the peer's: medians of several runs in turns, so that a busy spell hits both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(tries):
        for run, taken in zip((ours, peer), seconds, strict=True):
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    return amount / statistics.median(seconds[0]), amount / statistics.median(seconds[1])


def print_claims(claims: Iterable[Claim], description: str | None) -> None:
    """Print each claim as it is measured: with `--json` as one JSON object a line, otherwise as a line to read."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object per claim")
    as_json = parser.parse_args().json
    for claim in claims:
        print_claim(claim, as_json=as_json)


def print_claim(claim: Claim, *, as_json: bool) -> None:
    """Print a claim, as one JSON object or as a line to read."""
    if as_json:
        print(json.dumps(asdict(claim), ensure_ascii=False), flush=True)
    else:
        figures = f"ours {claim.ours:.4g}, peer {claim.peer:.4g}, ratio {claim.ratio:.3g}"
        print(f"{claim.name}: {figures} (goal: {claim.goal})", flush=True)
