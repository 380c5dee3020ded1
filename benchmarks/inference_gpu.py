"""Decoding on a GPU beside transformers: full-size models with random weights, at batches of 1, 32 and 256.

Granite 3.0 1B-A400M (a mixture of experts) and a dense 7B of Mistral's shape, in bfloat16; the 7B also with weights of
8 and 4 bits. Prompts of 128 tokens, greedy. Each program runs in a process of its own and has the GPU to itself: the
figure is the median of five turns. Bandwidth is measured by reading a large tensor; the share is that of the weights
which a token of one prompt is multiplied with.

    python benchmarks/inference_gpu.py
    python benchmarks/inference_gpu.py --smoke      the same program on a CPU, with tiny models: shows that it runs

Without a GPU it measures nothing and says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from inference import make_prompts, weight_bytes
from random_weights import write_weights
from vernacular.foundation.machine import describe_machine
from vernacular.models.weights import read_config
from worker import Worker

TURNS = 5
READ_ELEMENTS = 1 << 30
OURS, PEER = "our_worker.py", "transformers_worker.py"


@dataclass(frozen=True)
class Job:
    """What is measured, and where.

    Attributes:
        device: as torch names it.
        sizes: of random_weights.SIZES, with the formats that ours runs each in.
        batches: prompts at once.
        new_tokens: of each answer.
        turns: measured ones.
        read_elements: float32 numbers that the bandwidth is measured with.
    """

    device: str = "cuda"
    sizes: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"Granite 1B-A400M": ("bfloat16",), "7B": ("bfloat16", "int8", "int4")}
    )
    batches: tuple[int, ...] = (1, 32, 256)
    new_tokens: int = 64
    turns: int = TURNS
    read_elements: int = READ_ELEMENTS


SMOKE = Job(
    device="cpu",
    sizes={"smoke mixture": ("bfloat16",), "smoke": ("bfloat16", "int8", "int4")},
    batches=(1, 3),
    new_tokens=24,
    turns=1,
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
    return numbers.nbytes / best


def decode_rates(job: Job, weights: Path, script: str, dtype: str) -> Iterator[tuple[int, float, int]]:
    """Of each batch: its size, tokens a second after the first, and the process's peak memory on the device."""
    with Worker(sys.executable, script, str(weights), dtype, "2", job.device) as worker:
        for number in job.batches:
            vocabulary = read_config(weights).vocab_size
            seconds, peak = [], 0
            for turn in range(job.turns + 1):  # with prompts of its own, for ours remembers beginnings
                first, whole = (
                    worker.ask({"prompts": make_prompts(number, vocabulary, seed=2 * turn + half), "new_tokens": n})
                    for half, n in enumerate((1, job.new_tokens))
                )
                peak = whole["peak_device_bytes"] or whole["peak_bytes"]
                if turn:  # The first turn warms up, and records ours.
                    seconds.append(whole["seconds"] - first["seconds"])
            yield number, number * (job.new_tokens - 1) / statistics.median(seconds), peak


def measure(job: Job) -> Iterator[dict[str, Any]]:
    """All rows, one by one."""
    bytes_per_second = bandwidth(job)
    device = torch.cuda.get_device_name() if job.device == "cuda" else job.device
    yield {"what": "machine", **describe_machine(), "device": device, "bandwidth_bytes_per_second": bytes_per_second}
    for size, formats in job.sizes.items():
        with tempfile.TemporaryDirectory() as name:
            weights = write_weights(Path(name), size, dtype="bfloat16", device=job.device)
            peers = {number: rate for number, rate, _ in decode_rates(job, weights, PEER, "bfloat16")}
            for dtype in formats:
                bits = {"bfloat16": 2.0, "int8": 1.0, "int4": 0.53}[dtype]
                for number, rate, peak in decode_rates(job, weights, OURS, dtype):
                    line = {"what": f"{size}, batch {number}, {dtype}", "ours": rate, "peer": peers[number]}
                    if number == 1:
                        line["bandwidth_share"] = rate * weight_bytes(weights, bits) / bytes_per_second
                    yield {**line, "ratio": rate / peers[number], "peak_bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny models on the CPU: a test of this program")
    parser.add_argument("--only", nargs="+", choices=Job().sizes, metavar="SIZE", help=f"of {list(Job().sizes)}")
    formats = sorted({dtype for some in Job().sizes.values() for dtype in some})
    parser.add_argument("--formats", nargs="+", choices=formats, metavar="DTYPE", help=f"of {formats}")
    arguments = parser.parse_args()
    job = SMOKE if arguments.smoke else Job()
    if arguments.only or arguments.formats:
        job = replace(
            job,
            sizes={
                size: tuple(dtype for dtype in formats if dtype in (arguments.formats or formats))
                for size, formats in job.sizes.items()
                if size in (arguments.only or job.sizes)
            },
        )
    if job.device == "cuda" and not torch.cuda.is_available():
        missing = [f"{size}, batch {number}" for size in job.sizes for number in job.batches]
        raise SystemExit(f"this machine has no GPU that PyTorch can use; not measured: {'; '.join(missing)}")
    for line in measure(job):
        print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
