"""Decoding on a GPU beside transformers: full-size models with random weights, at batches of 1, 32 and 256.

Granite 3.0 1B-A400M (a mixture of experts) and a dense 7B of Mistral's shape, in bfloat16; the 7B also with weights of
8 and 4 bits; then transformers once more with its cache of fixed size, for which it compiles the whole model. Prompts
of 128 tokens, greedy. Each program runs in a process of its own and has the GPU to itself; its weights are drawn there.
A figure is the median of three turns after one that warms up; a row is printed when it is measured, the most important
first. Bandwidth is measured by reading a large tensor; the share is that of the weights which a token of one prompt is
multiplied with.

    python benchmarks/inference_gpu.py
    python benchmarks/inference_gpu.py --seconds 300 --only "Granite 1B-A400M"
    python benchmarks/inference_gpu.py --smoke      the same program on a CPU, with tiny models: shows that it runs

When `--seconds` are over, what runs is ended, and what was not measured is said. Without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from inference import make_prompts, weight_bytes
from random_weights import shape_of
from vernacular.foundation.machine import describe_machine
from worker import Ended, Worker

BYTES_PER_WEIGHT = {"bfloat16": 2.0, "int8": 1.0, "int4": 0.53}
TRANSFORMERS, COMPILED = "transformers", "transformers-compiled"


@dataclass(frozen=True)
class Turn:
    """A program on a model: all its batches, in one process.

    Attributes:
        size: of random_weights.SIZES.
        program: of the worker's.
        dtype: of the weights.
    """

    size: str
    program: str = "ours"
    dtype: str = "bfloat16"

    def row(self, number: int) -> str:
        """What the row of a batch is called."""
        return f"{self.size}, batch {number}, {self.program} {self.dtype}"


@dataclass(frozen=True)
class Job:
    """What is measured, and where.

    Attributes:
        turns: the programs, in their order.
        device: as torch names it.
        batches: prompts at once.
        new_tokens: of each answer.
        repeats: measured ones.
        read_elements: float32 numbers that the bandwidth is measured with.
    """

    turns: Sequence[Turn]
    device: str = "cuda"
    batches: tuple[int, ...] = (1, 32, 256)
    new_tokens: int = 64
    repeats: int = 3
    read_elements: int = 1 << 30


MIXTURE, DENSE = "Granite 1B-A400M", "7B"
FULL = Job(
    [
        Turn(MIXTURE),
        Turn(MIXTURE, TRANSFORMERS),
        Turn(DENSE),
        Turn(DENSE, TRANSFORMERS),
        Turn(DENSE, dtype="int8"),
        Turn(DENSE, dtype="int4"),
        Turn(MIXTURE, COMPILED),
        Turn(DENSE, COMPILED),
    ]
)
SMOKE = Job(
    [Turn("smoke mixture"), Turn("smoke mixture", TRANSFORMERS), Turn("smoke", dtype="int4"), Turn("smoke", COMPILED)],
    device="cpu",
    batches=(1, 3),
    new_tokens=24,
    repeats=1,
    read_elements=1 << 20,
)


def bandwidth(job: Job) -> float:
    """Bytes a second that the device reads: what decoding one prompt is bound by."""
    numbers = torch.ones(job.read_elements, device=job.device)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        numbers.sum().item()
        best = min(best, time.perf_counter() - started)
    size = numbers.nbytes
    del numbers
    if job.device == "cuda":
        torch.cuda.empty_cache()  # the programs have the GPU to themselves
    return size / best


def decode(job: Job, worker: Worker, number: int, vocabulary: int) -> dict[str, Any]:
    """Tokens a second after the first of a batch, what the turn that warmed up took, and memory on the device."""
    seconds: list[float] = []
    warm_up = 0.0
    for turn in range(job.repeats + 1):  # with prompts of its own, for ours remembers beginnings
        first, whole = (
            worker.ask({"prompts": make_prompts(number, vocabulary, seed=2 * turn + half), "new_tokens": count})
            for half, count in enumerate((1, job.new_tokens))
        )
        if turn:
            seconds.append(whole["seconds"] - first["seconds"])
        else:  # ours compiles and records
            warm_up = first["seconds"] + whole["seconds"]
    return {
        "tokens_per_second": number * (job.new_tokens - 1) / statistics.median(seconds),
        "warm_up_seconds": warm_up,
        "peak_bytes": whole["peak_device_bytes"] or whole["peak_bytes"],
    }


def measure(job: Job, seconds: float) -> Iterator[dict[str, Any]]:
    """All rows, one by one, until the seconds are over."""
    until = time.monotonic() + seconds
    bytes_per_second = bandwidth(job)
    device = torch.cuda.get_device_name() if job.device == "cuda" else job.device
    yield {"what": "machine", **describe_machine(), "device": device, "bandwidth_bytes_per_second": bytes_per_second}
    rates: dict[tuple[str, int], dict[str, float]] = {}
    for turn in job.turns:
        shape = shape_of(turn.size)
        missing = list(job.batches)
        try:
            words = turn.program, turn.size, turn.dtype, job.device
            with Worker(sys.executable, "drawn_worker.py", *words, until=until) as worker:
                for number in job.batches:
                    line = {"what": turn.row(number), **decode(job, worker, number, shape.vocab_size)}
                    rate = line["tokens_per_second"]
                    others = rates.setdefault((turn.size, number), {})
                    if number == 1:
                        moved = weight_bytes(shape, BYTES_PER_WEIGHT[turn.dtype])
                        line["bandwidth_share"] = rate * moved / bytes_per_second
                    line["ratios"] = {f"this / {name}": rate / other for name, other in others.items()}
                    others[f"{turn.program} {turn.dtype}"] = rate
                    missing.remove(number)
                    yield {**line, "started_after_seconds": worker.seconds_to_load}
        except Ended as ended:
            why = f"{seconds:g} seconds were over" if time.monotonic() >= until else str(ended)
            for number in missing:
                yield {"what": turn.row(number), "measured": False, "why": why}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny models on the CPU: a test of this program")
    parser.add_argument("--seconds", type=float, default=540, metavar="N", help="most it takes in all (540)")
    sizes = list(dict.fromkeys(turn.size for turn in FULL.turns))
    parser.add_argument("--only", nargs="+", choices=sizes, metavar="SIZE", help=f"of {sizes}")
    parser.add_argument("--programs", nargs="+", metavar="PROGRAM", help=f"of ours, {TRANSFORMERS}, {COMPILED}")
    parser.add_argument("--formats", nargs="+", choices=BYTES_PER_WEIGHT, metavar="DTYPE", help="of ours")
    arguments = parser.parse_args()
    job = SMOKE if arguments.smoke else FULL
    job = replace(
        job,
        turns=[
            turn
            for turn in job.turns
            if turn.size in (arguments.only or [turn.size])
            and turn.program in (arguments.programs or [turn.program])
            and turn.dtype in (arguments.formats or [turn.dtype])
        ],
    )
    if job.device == "cuda" and not torch.cuda.is_available():
        missing = [turn.row(number) for turn in job.turns for number in job.batches]
        raise SystemExit(f"this machine has no GPU that PyTorch can use; not measured: {'; '.join(missing)}")
    for line in measure(job, arguments.seconds):
        print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
