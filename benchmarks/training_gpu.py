"""Training of full-size models on one GPU: tokens per second, MFU, memory by part, in bfloat16 and in float8.

Bielik's shape (7.24B weights, rows of 4096) and Granite 3.0 1B-A400M, each trained from random weights by our trainer
for a few steps, in a process of its own. About two minutes a run, so under eight in all. The 7B model keeps its weights
and averages in bfloat16 with stochastic rounding and needs a GPU of some 110 GB.

A pass takes as many rows as the GPU should hold. Where it runs out of memory all the same, a new process tries half as
many, and the line says so; what does not fit with one row, or what the GPU cannot compute, is said and not measured.

    python benchmarks/training_gpu.py
    python benchmarks/training_gpu.py --seconds 240 --only "Granite 1B-A400M, bfloat16"
    python benchmarks/training_gpu.py --toy

When `--seconds` are over, what runs is ended, and what was not measured is said. `--toy` runs all of it at toy size on
whatever there is, a CPU too: that it works, not how fast.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vernacular.foundation.machine import describe_machine
from worker import Ended, Worker

WARM_UP, STEPS = 1, 5
FLOAT8_CAPABILITY = (8, 9)
BIELIK = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 14336,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
GRANITE = {
    "model_type": "granitemoe",
    "vocab_size": 49155,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "intermediate_size": 512,
    "num_local_experts": 32,
    "num_experts_per_tok": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.015625,
    "residual_multiplier": 0.22,
    "logits_scaling": 6.0,
    "router_aux_loss_coef": 0.001,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
TOY = {
    "vocab_size": 512,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}
SETTINGS = {
    "sequence_length": 4096,
    "compile": True,
    "document_mask": False,  # a row is one document
    "log_every": 100,  # as in a real run; the steps between are what is timed
    "loss_chunk_tokens": 4096,
}


@dataclass(frozen=True)
class Run:
    """A model, how it is trained, and what is to be reached.

    Attributes:
        config: published configuration.
        settings: of the training stage.
        fixed_bytes: what weights, gradients and averages take.
        row_bytes: what a row of a pass takes besides, as measured (docs/benchmarks.md).
        goal: least tokens a second or least MFU, by the figure's name.
    """

    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    fixed_bytes: float
    row_bytes: float
    goal: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_float8(self) -> bool:
        """Whether its products are in float8."""
        return bool(self.settings["parallel"]["float8"])

    @property
    def rows(self) -> int:
        """Rows of a pass."""
        return self.settings["micro_batch_tokens"] // self.settings["sequence_length"]

    def with_rows(self, rows: int) -> Run:
        """The same run with passes of so many rows."""
        tokens = rows * self.settings["sequence_length"]
        return replace(self, settings={**self.settings, "micro_batch_tokens": tokens})

    def fitting(self, memory: float) -> Run:
        """With as many rows, halved time and again, as should fit; at least one."""
        rows = self.rows
        while rows > 1 and self.fixed_bytes + rows * self.row_bytes > memory:
            rows //= 2
        return self.with_rows(rows)

    def obstacle(self) -> str | None:
        """Why it cannot be measured on this machine at full size; None where it can."""
        if not torch.cuda.is_available():
            return "this machine has no GPU"
        if self.is_float8 and torch.cuda.get_device_capability() < FLOAT8_CAPABILITY:
            return f"{torch.cuda.get_device_name()} has no float8 products"
        memory, needs = torch.cuda.get_device_properties(0).total_memory, self.fixed_bytes + self.row_bytes
        if memory < needs:
            return f"needs {needs / 1e9:.0f} GB; {torch.cuda.get_device_name()} has {memory / 1e9:.0f}"
        return None


def bielik(*, float8: bool) -> dict[str, Any]:
    """Weights and averages in bfloat16: with float32 beside them a 7B model fits on no single GPU."""
    return {
        **SETTINGS,
        "batch_tokens": 16 * 4096,
        "micro_batch_tokens": (2 if float8 else 4) * 4096,  # what was measured; four fill an H200
        "precision": "bfloat16-pure",
        "rounding": "stochastic",
        "optimiser": {"name": "adamw-bf16", "learning_rate": 3e-5, "schedule": "constant"},
        "parallel": {"float8": float8},
    }


def granite(*, float8: bool) -> dict[str, Any]:
    """As Granite was trained, in one micro-batch after the other, each balanced for itself."""
    return {
        **SETTINGS,
        "batch_tokens": 32 * 4096,
        "micro_batch_tokens": 16 * 4096,
        "precision": "bfloat16",
        "router_z_loss": 0.001,
        "load_balance": "pass",
        "optimiser": {"name": "adamw", "learning_rate": 3e-4, "schedule": "constant"},
        "parallel": {"float8": float8},
    }


RUNS = {
    "Bielik 7B, bfloat16": Run(BIELIK, bielik(float8=False), 72.4e9, 18.7e9, {"tokens_per_second": 12_500}),
    "Bielik 7B, float8": Run(BIELIK, bielik(float8=True), 72.4e9, 13.1e9, {"tokens_per_second": 15_000}),
    "Granite 1B-A400M, bfloat16": Run(GRANITE, granite(float8=False), 21.3e9, 6.3e9, {"mfu": 0.45}),
    "Granite 1B-A400M, float8": Run(GRANITE, granite(float8=True), 21.3e9, 6.3e9),
}


def in_small(run: Run) -> Run:
    """The same run at toy size, which anything can do."""
    config = {**run.config, **TOY, "head_dim": 16}
    if "num_local_experts" in config:
        config |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    sizes = {"sequence_length": 64, "batch_tokens": 4 * 64, "micro_batch_tokens": 2 * 64, "compile": False}
    optimiser = {**run.settings["optimiser"], "learning_rate": 1e-2}
    return Run(config, {**run.settings, **sizes, "optimiser": optimiser, "device": None}, 0.0, 0.0)


def measure(names: list[str], *, toy: bool, seconds: float) -> Iterator[dict[str, Any]]:
    """A line for each run: its figures, or why there are none."""
    until = time.monotonic() + seconds
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    yield {"what": "machine", **describe_machine(), "gpu": gpu, "toy": toy}
    for name in names:
        run = in_small(RUNS[name]) if toy else RUNS[name]
        obstacle = run.obstacle()
        if obstacle and not (toy and not run.is_float8):
            yield {"what": name, "measured": False, "why": obstacle, "goal": RUNS[name].goal}
            continue
        if gpu is not None:
            run = run.fitting(torch.cuda.get_device_properties(0).total_memory)
        try:
            found = train(run, until)
        except Ended as ended:
            why = f"{seconds:g} seconds were over" if time.monotonic() >= until else str(ended)
            yield {"what": name, "measured": False, "why": why, "goal": RUNS[name].goal}
            continue
        reached = {key: found[key] / least for key, least in run.goal.items() if found.get(key) is not None}
        measured = not toy and "out_of_memory" not in found
        yield {"what": name, "measured": measured, **found, "goal": RUNS[name].goal, "of the goal": reached}
    if toy or gpu is None:
        yield {"what": "not measured", "why": "speed, MFU and memory of a GPU: run this on a machine that has one"}


def train(run: Run, until: float) -> dict[str, Any]:
    """What the worker found, with the rows of a pass and those that were too many before."""
    too_many: list[int] = []
    while True:
        job = json.dumps({"config": run.config, "settings": run.settings})
        with Worker(sys.executable, "gpu_training_worker.py", job, until=until) as worker:
            found = worker.ask({"warm_up": WARM_UP, "steps": STEPS})
        found |= {"rows_of_a_pass": run.rows, "out_of_memory_with_rows": list(too_many)}
        if "out_of_memory" not in found or run.rows == 1:
            return found
        too_many.append(run.rows)
        run = run.with_rows(run.rows // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="toy sizes, on a CPU too: whether it works")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN", help=f"of {list(RUNS)}")
    parser.add_argument("--seconds", type=float, default=540, metavar="N", help="most it takes in all (540)")
    arguments = parser.parse_args()
    for line in measure(arguments.only, toy=arguments.toy, seconds=arguments.seconds):
        print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
