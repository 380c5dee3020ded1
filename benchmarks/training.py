"""Training tokens per processor second, and peak memory, ours beside transformers, litgpt and TRL.

Every program trains in a process of its own on one thread, on the same tokens from the same weights: float32 weights,
products in bfloat16, AdamW with clipped gradients. They take turns of a step; a figure is the median of five turns.
Programs that share weights must show the same losses, or nothing is measured. TRL packs rows of its own, so it is held
to the loss of the first step alone; litgpt's mixture has weights of its own and is held to nothing.

    python benchmarks/training.py --peers PYTHON --trl PYTHON
    python benchmarks/training.py --peers PYTHON --rows dense mixture
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
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch

from random_weights import SIZES, write_weights
from vernacular.foundation.machine import describe_machine
from vernacular.models.weights import read_config
from vernacular.training.throughput import training_flops_per_token
from worker import Worker

TURNS = 5
STEPS = 1
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


class Held(Enum):
    """Which of its losses a program must share with ours."""

    ALL_LOSSES = "the same rows from the same weights"
    FIRST_LOSS = "the same weights, rows of its own"
    NOTHING = "weights of its own"


@dataclass(frozen=True)
class Program:
    """A worker script, and the interpreter it runs in.

    Attributes:
        goal: what ours is to be, times this program's figure.
        held_to: which of its losses are to be ours.
    """

    script: str
    python: str = sys.executable
    compiled: bool = False
    goal: float | None = None
    held_to: Held = Held.ALL_LOSSES


@dataclass(frozen=True)
class Row:
    """A row of the table: a decoder, and who trains it.

    Attributes:
        conversations: whether it learns conversations of many lengths, packed, rather than full rows.
    """

    what: str
    size: Mapping[str, Any]
    programs: Mapping[str, Program]
    conversations: bool = False


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


def write_job(folder: Path, row: Row, scale: Scale) -> dict[str, Any]:
    """Weights and tokens that all programs of a row are given, and the tokens that one sees at most, on average."""
    shape = scale.shape(row.size)
    SIZES["benchmark"] = shape
    weights = write_weights(folder, "benchmark", initializer_range=0.02)
    numbers = np.random.default_rng(0)
    # Ids beyond the tokenizer's special ones; the steps of all turns and of the warm-up.
    rows, context = (scale.turns + 1) * scale.steps * scale.rows, float(scale.tokens)
    if row.conversations:
        shortest, longest = (min(length, scale.tokens) for length in CONVERSATION_TOKENS)
        lengths = numbers.integers(shortest, longest, size=rows * (2 * scale.tokens) // (shortest + longest) + 64)
        context = float((lengths**2).sum() / lengths.sum())
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
        "context": context,
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
        pairs = list(zip(losses["ours"], losses[name], strict=True))
        held = {Held.ALL_LOSSES: pairs, Held.FIRST_LOSS: pairs[:1], Held.NOTHING: []}[program.held_to]
        worst = max((abs(ours - theirs) for ours, theirs in held), default=0.0)
        if worst > SAME_LOSS:
            raise SystemExit(f"the losses of {name} differ from ours by up to {worst:.3f}: {losses[name]}")


def lines(row: Row, job: Mapping[str, Any], scale: Scale, product_flops: float) -> Iterator[dict[str, Any]]:
    """One line for each program of a row, with how many times its figure ours is."""
    figures = take_turns(row.programs, job, scale)
    useful = training_flops_per_token(read_config(Path(job["weights"])), round(job["context"]))
    for name, figure in figures.items():
        line: dict[str, Any] = {"what": row.what, "program": name, **figure}
        line["of the product's FLOP/s"] = useful * figure["tokens_per_processor_second"] / product_flops
        if name != "ours":
            ours = figures["ours"]
            line["ours ×"] = ours["tokens_per_processor_second"] / figure["tokens_per_processor_second"]
            line["our memory ×"] = ours["peak_bytes"] / figure["peak_bytes"]
            line["goal"] = row.programs[name].goal
        yield line


def table(peers: str | None, trl: str | None) -> dict[str, Row]:
    """All rows, by the names that `--rows` takes."""
    hugging_face, lightning = "transformers_training_worker.py", "litgpt_training_worker.py"
    python = peers or sys.executable

    def beside(goal: float | None, **others: Program) -> dict[str, Program]:
        ours = Program("our_training_worker.py")
        return {"ours": ours, "transformers": Program(hugging_face, python, goal=goal), **others}

    dense, mixture = SIZES["70M"], SIZES["MoE 85M"]
    compiled: dict[str, Program] = {}
    blended: dict[str, Program] = {}
    if peers:
        compiled["transformers compiled"] = Program(hugging_face, peers, compiled=True, goal=1.15)
        compiled["litgpt compiled"] = Program(lightning, peers, compiled=True, goal=1.15)
        blended["litgpt"] = Program(lightning, peers, goal=1.4, held_to=Held.NOTHING)
    tuning = {"ours": Program("our_training_worker.py")}
    if trl:
        tuning["TRL"] = Program("trl_training_worker.py", trl, goal=3.0, held_to=Held.FIRST_LOSS)
    wide = {**dense, "vocab_size": WIDE_VOCABULARY}
    return {
        "dense": Row("dense 70M", dense, beside(1.15, **compiled)),
        "mixture": Row("MoE 85M", mixture, beside(1.4, **blended)),
        "mpt": Row("MPT 54M", MPT, beside(1.2)),
        "memory": Row("dense, vocabulary of 128k, for its memory (goal × 0.5)", wide, beside(None)),
        "fine-tuning": Row("fine-tuning, packed, real tokens", dense, tuning, conversations=True),
    }


def measure(rows: Sequence[Row], scale: Scale) -> Iterator[dict[str, Any]]:
    """The rows of the table, one by one."""
    product_flops = product_rate(scale)
    yield {"what": "machine", **describe_machine(), "product_flops_per_second": product_flops}
    for row in rows:
        with tempfile.TemporaryDirectory() as folder:
            yield from lines(row, write_job(Path(folder), row, scale), scale, product_flops)


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
    parser.add_argument("--rows", nargs="+", choices=table(None, None), help="only these rows of the table")
    arguments = parser.parse_args()
    scale = Scale(1, 1, 2, 48, toy=True) if arguments.smoke else Scale(TURNS, STEPS, ROWS, TOKENS, toy=False)
    rows = table(arguments.peers, arguments.trl)
    for line in measure([rows[name] for name in arguments.rows or rows], scale):
        if arguments.json:
            print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            print(", ".join(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}"
                            for key, value in line.items()), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
