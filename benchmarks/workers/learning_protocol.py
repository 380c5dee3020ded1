"""What a worker that learns against the clock and the benchmark say to each other: a line of JSON each way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """What both programs are given.

    Attributes:
        weights: folder of the initial weights, float32.
        tokens: folder of token shards.
        settings: the recipe's, of its pre-training stage.
        threads: of the processor.
    """

    weights: Path
    tokens: Path
    settings: dict[str, Any]
    threads: int


@dataclass(frozen=True)
class Lesson:
    """How long to learn, and at what peak rate; null: the recipe's."""

    seconds: float
    learning_rate: float | None


@dataclass(frozen=True)
class Outcome:
    """What came of it: steps, the seconds they took, and the mean loss of all held-out targets in nats."""

    steps: int
    seconds: float
    heldout_loss: float


def read_job() -> Job:
    """The job, from the command line."""
    values: dict[str, Any] = json.loads(sys.argv[1])
    return Job(**{**values, "weights": Path(values["weights"]), "tokens": Path(values["tokens"])})


def serve(learn: Callable[[Lesson], Outcome]) -> None:
    """Answer requests from standard input until it ends; each begins with the initial weights."""
    # What libraries print must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(learn(Lesson(**json.loads(line))))), file=answers, flush=True)
