"""What a training worker and the benchmark say to each other: a line of JSON each way. Standard library only.

A worker trains one program in a process of its own. Told `{"steps": [first, last]}` it takes these steps of the batches
it was started with and answers with the seconds, the processor seconds and the real tokens they took, the loss of each
step, and the process's peak memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol import peak_bytes

Step = Callable[[int], tuple[float, int]]
"""Takes the step of that number; gives the mean loss before it and the tokens that are no padding."""


@dataclass(frozen=True)
class Job:
    """What a worker is started with.

    Attributes:
        weights: weights folder, float32.
        batches: .npy, ids [steps, rows, T + 1]; or, to fine-tune, .npz of conversations' `ids` and `lengths`.
        rows: rows of a step.
        tokens: T.
        context: tokens of the document that a token belongs to, on average.
        precision: float32 or bfloat16 (float32 weights, products in bfloat16).
        threads: of the processor.
        compiled: whether the program compiles its model; ours never does.
        learning_rate: of AdamW, constant; betas 0.9 and 0.95, ε 1e-8, decay 0.1, gradients clipped at 1.
    """

    weights: Path
    batches: Path
    rows: int
    tokens: int
    context: float
    precision: str
    threads: int
    compiled: bool
    learning_rate: float


def read_job() -> Job:
    """The job, from the command line."""
    values: dict[str, Any] = json.loads(sys.argv[1])
    return Job(**{**values, "weights": Path(values["weights"]), "batches": Path(values["batches"])})


def serve(step: Step) -> None:
    """Answer requests from standard input until it ends."""
    # What libraries print must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        first, last = json.loads(line)["steps"]
        wall, processor = time.perf_counter(), time.process_time()
        taken = [step(number) for number in range(first, last)]
        answer = {
            "seconds": time.perf_counter() - wall,
            "processor_seconds": time.process_time() - processor,
            "losses": [loss for loss, _ in taken],
            "tokens": sum(tokens for _, tokens in taken),
            "peak_bytes": peak_bytes(),
        }
        print(json.dumps(answer), file=answers, flush=True)
