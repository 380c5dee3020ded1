"""Training tokens per processor second, and peak memory, ours beside transformers, litgpt and TRL.

Every program trains in a process of its own on one thread, on the same tokens from the same weights: float32 weights,
products in bfloat16, AdamW with clipped gradients. They take turns of some steps; a figure is the median of five turns.
Programs that share weights must show the same losses, or nothing is measured.

    python benchmarks/training.py --peers PYTHON --trl PYTHON
    python benchmarks/training.py --smoke

The first PYTHON belongs to an environment with `pip install litgpt==0.5.9 transformers`, the second to one with
`pip install trl==1.16.0`: litgpt needs numpy below 2, what TRL reads its data with needs it from 2 on. Without them the
peer is the transformers of this environment. `--smoke` runs all of it at toy size: that it works, not how fast.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from random_weights import SIZES, write_weights
from vernacular.foundation.machine import describe_machine
from worker import Worker

TURNS = 5
STEPS = 2
ROWS, TOKENS = 8, 512
WIDE_VOCABULARY = 128_000
LEARNING_RATE = 3e-4
# The same arithmetic in bfloat16, in another order of its roundings.
SAME_LOSS = 0.03
CONVERSATION_TOKENS = (20, 600)
MPT = {
    "family": "mpt",
    "vocab_size": 50368,
    "hidden_size": 512,
    "num_layers": 8,
    "num_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 2048,
    "position": "alibi",
    "norm": "layer",
    "feed_forward": "plain",
    "activation": "gelu",
    "tie_embeddings": True,
}
TOY = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
}
# transformers' MPT has inner layers of four times the width, whatever its configuration says.
TOY_MPT = {**TOY, "num_key_value_heads": 4, "intermediate_size": 128}


@dataclass(frozen=True)
class Program:
    """A worker script, and the interpreter it runs in.

    Attributes:
        goal: what ours is to be, times this program's figure.
        shares_weights: whether its losses are to be ours.
    """

    script: str
    python: str = sys.executable
    compiled: bool = False
    goal: float | None = None
    shares_weights: bool = True


class Training(Worker):
    """A program that trains."""

    def __init__(self, program: Program, job: Mapping[str, Any]) -> None:
        super().__init__(program.python, program.script, json.dumps({**job, "compiled": program.compiled}))

    def take_steps(self, first: int, last: int) -> dict[str, Any]:
        """Train, and what it took."""
        return self.ask({"steps": [first, last]})


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    turns: int
    steps: int
    rows: int
    tokens: int
    toy: bool

    def shape(self, size: Mapping[str, Any]) -> dict[str, Any]:
        """The decoder of a row, made small for a trial."""
        if not self.toy:
            return dict(size)
        small: dict[str, Any] = {**size, **(TOY_MPT if size.get("family") == "mpt" else TOY)}
        small["vocab_size"] = 2048
        return small | ({"num_experts": 4, "experts_per_token": 2} if "num_experts" in size else {})


def write_job(folder: Path, size: Mapping[str, Any], scale: Scale, *, conversations: bool = False) -> dict[str, Any]:
    """Weights and tokens that all programs of a row are given."""
    shape = scale.shape(size)
    SIZES["benchmark"] = shape
    weights = write_weights(folder, "benchmark", initializer_range=0.02)
    numbers = np.random.default_rng(0)
    # Ids beyond the tokenizer's special ones; the steps of all turns and of the warm-up.
    rows = (scale.turns + 1) * scale.steps * scale.rows
    if conversations:
        shortest, longest = (min(length, scale.tokens) for length in CONVERSATION_TOKENS)
        lengths = numbers.integers(shortest, longest, size=rows * (2 * scale.tokens) // (shortest + longest) + 64)
        batches = folder / "conversations.npz"
        np.savez(batches, ids=numbers.integers(10, shape["vocab_size"], size=lengths.sum()), lengths=lengths)
    else:
        batches = folder / "batches.npy"
        ids = numbers.integers(10, shape["vocab_size"], size=(rows // scale.rows, scale.rows, scale.tokens + 1))
        np.save(batches, ids)
    return {
        "weights": str(weights),
        "batches": str(batches),
        "rows": scale.rows,
        "tokens": scale.tokens,
        "precision": "bfloat16",
        "threads": 1,
        "learning_rate": LEARNING_RATE,
    }


def take_turns(programs: Mapping[str, Program], job: Mapping[str, Any], scale: Scale) -> dict[str, dict[str, float]]:
    """Every program's real tokens per processor second and per second, medians of its turns, and its peak memory."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    losses: dict[str, list[float]] = {name: [] for name in programs}
    peaks = dict.fromkeys(programs, 0.0)
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Training(program, job)) for name, program in programs.items()}
        for turn in range(scale.turns + 1):
            order = list(workers)
            random.Random(turn).shuffle(order)
            for name in order:
                answer = workers[name].take_steps(turn * scale.steps, (turn + 1) * scale.steps)
                losses[name] += answer["losses"]
                peaks[name] = answer["peak_bytes"]
                if turn:  # The first turn warms up.
                    rates = (answer["tokens"] / answer["processor_seconds"], answer["tokens"] / answer["seconds"])
                    taken[name].append(rates)
    check_losses(programs, losses)
    figures = {}
    for name, turns in taken.items():
        processor, wall = (statistics.median(values) for values in zip(*turns, strict=True))
        figures[name] = {
            "tokens_per_processor_second": processor,
            "tokens_per_second": wall,
            "peak_bytes": peaks[name],
            "last_loss": losses[name][-1],
        }
    return figures


def check_losses(programs: Mapping[str, Program], losses: Mapping[str, Sequence[float]]) -> None:
    """Refuse figures of programs that do not compute the same."""
    for name, program in programs.items():
        worst = max(abs(a - b) for a, b in zip(losses["ours"], losses[name], strict=True))
        if program.shares_weights and worst > SAME_LOSS:
            raise SystemExit(f"the losses of {name} differ from ours by up to {worst:.3f}: {losses[name]}")


def lines(what: str, programs: Mapping[str, Program], job: Mapping[str, Any], scale: Scale) -> Iterator[dict[str, Any]]:
    """One line for each program of a row, with how many times its figure ours is."""
    figures = take_turns(programs, job, scale)
    for name, figure in figures.items():
        line: dict[str, Any] = {"what": what, "program": name, **figure}
        if name != "ours":
            ours = figures["ours"]
            line["ours ×"] = ours["tokens_per_processor_second"] / figure["tokens_per_processor_second"]
            line["our memory ×"] = ours["peak_bytes"] / figure["peak_bytes"]
            line["goal"] = programs[name].goal
        yield line


def measure(peers: str | None, trl: str | None, scale: Scale) -> Iterator[dict[str, Any]]:
    """All rows of the table, one by one."""
    yield {"what": "machine", **describe_machine(), "product_flops_per_second": product_rate(scale)}
    ours = {"ours": Program("our_training_worker.py")}
    theirs = "transformers_training_worker.py"
    python = peers or sys.executable
    dense, mixture = dict(SIZES["70M"]), dict(SIZES["MoE 85M"])
    with_peers: dict[str, dict[str, Program]] = {"dense": {}, "mixture": {}}
    if peers:
        with_peers["dense"] = {
            "transformers compiled": Program(theirs, peers, compiled=True, goal=1.15),
            "litgpt compiled": Program("litgpt_training_worker.py", peers, compiled=True, goal=1.15),
        }
        with_peers["mixture"] = {"litgpt": Program("litgpt_training_worker.py", peers, goal=1.4, shares_weights=False)}
    rows = {
        "dense 70M": (dense, with_peers["dense"], 1.15),
        "MoE 85M": (mixture, with_peers["mixture"], 1.4),
        "MPT 54M": (MPT, {}, 1.2),
        "dense, vocabulary of 128k, for its memory (goal × 0.5)": ({**dense, "vocab_size": WIDE_VOCABULARY}, {}, None),
    }
    for what, (size, others, goal) in rows.items():
        with tempfile.TemporaryDirectory() as folder:
            programs = {**ours, "transformers": Program(theirs, python, goal=goal), **others}
            yield from lines(what, programs, write_job(Path(folder), size, scale), scale)
    with tempfile.TemporaryDirectory() as folder:
        job = write_job(Path(folder), dense, scale, conversations=True)
        with_trl = {"TRL": Program("trl_training_worker.py", trl, goal=3.0, shares_weights=False)} if trl else {}
        yield from lines("fine-tuning, packed, real tokens", {**ours, **with_trl}, job, scale)


def product_rate(scale: Scale) -> float:
    """FLOP/s of bfloat16 matrix products on one thread: what training is bound by."""
    torch.set_num_threads(1)
    width = 64 if scale.toy else 2048
    a, b = (torch.ones(width, width, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        a @ b
        best = min(best, time.process_time() - started)
    return 2 * width**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter whose environment has litgpt")
    parser.add_argument("--trl", metavar="PYTHON", help="an interpreter whose environment has TRL")
    parser.add_argument("--smoke", action="store_true", help="toy sizes: whether it works")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    arguments = parser.parse_args()
    scale = Scale(1, 1, 2, 48, toy=True) if arguments.smoke else Scale(TURNS, STEPS, ROWS, TOKENS, toy=False)
    for line in measure(arguments.peers, arguments.trl, scale):
        if arguments.json:
            print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            print(", ".join(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}"
                            for key, value in line.items()), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
