"""Some steps of our trainer on a decoder of random weights: `gpu_training_worker.py JOB`, then a line of JSON each way.

JOB is JSON: `config`, a published config.json; `settings`, a training stage's. Told `{"warm_up": n, "steps": n}`, it
answers with seconds, tokens, losses, memory by part, and how the routers spread the tokens; or with `out_of_memory`,
and then there is nothing more to ask this process.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

# The 7B model fills an H200 to its last gigabytes, which pages of fixed sizes would not let it.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch
from given_rows import GivenRows, NextOfGiven

from random_weights import draw
from vernacular.lifecycle.memory import training_memory
from vernacular.models.decoder import Decoder
from vernacular.models.family import from_published
from vernacular.tokens.order import Order
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.position import Position, StepResult
from vernacular.training.throughput import explain, training_flops_per_token, utilisation
from vernacular.training.trainer import Trainer, open_training_mesh
from vernacular.training.watch import peak_memory_bytes

PRODUCT_SIDE = 8192


def make_rows(vocab_size: int, configuration: TrainingConfiguration, steps: int) -> GivenRows:
    """Ids drawn as words are, the k-th most frequent one in proportion to 1/k: routers see some tokens often."""
    numbers = np.random.default_rng(0)
    shares = 1 / np.arange(1, vocab_size + 1)
    count = steps * configuration.batch_rows
    ids = numbers.choice(vocab_size, (count, configuration.sequence_length + 1), p=shares / shares.sum())
    order = Order(count, configuration.batch_rows, configuration.seed)
    return GivenRows([[row] for row in ids], configuration.sequence_length, order)


def bytes_by_part(trainer: Trainer, peak: int) -> dict[str, int]:
    """What the device held at most: what was kept, and the rest, which is mostly activations."""
    parameters = list(trainer.decoder.parameters())
    states = [value for state in trainer.optimiser.state.values() for value in state.values()]
    kept = {
        "weights": sum(parameter.nbytes for parameter in parameters),
        "gradients": sum(4 * parameter.numel() for parameter in parameters),
        "optimiser": sum(value.nbytes for value in states if isinstance(value, torch.Tensor)),
    }
    return {**kept, "activations and the rest": peak - sum(kept.values()), "all": peak}


def product_rate(device: torch.device, side: int) -> float:
    """FLOP/s of bfloat16 matrix products here and now."""
    a, b = (torch.ones(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        _wait(device)
        begun = time.perf_counter()
        a @ b
        _wait(device)
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    job: dict[str, Any] = json.loads(sys.argv[1])
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            found = measure(job, **json.loads(line))
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
            found = {"out_of_memory": str(error).splitlines()[0]}
        print(json.dumps(found), file=answers, flush=True)


def measure(job: dict[str, Any], warm_up: int, steps: int) -> dict[str, Any]:
    """Train, and what it took."""
    configuration = TrainingConfiguration.model_validate({**job["settings"], "steps": warm_up + steps})
    shape = from_published(job["config"], Path("config.json"))
    mesh = open_training_mesh(configuration)
    with tempfile.TemporaryDirectory() as folder:
        device = mesh.device
        rate = product_rate(device, PRODUCT_SIDE if device.type == "cuda" else 256)
        with device:
            decoder = Decoder(shape)
        draw(decoder, device)
        rows = make_rows(shape.vocab_size, configuration, warm_up + steps)
        objective = NextOfGiven(rows, configuration.loss_chunk_tokens)
        trainer = Trainer(configuration, objective, decoder, Path(folder), name="benchmark", mesh=mesh)
        position = Position(threads=trainer.threads, data=objective.data_hash)

        def take(count: int) -> tuple[list[StepResult], float]:
            taken = []
            _wait(device)
            begun = time.perf_counter()
            for _ in range(count):
                taken.append(trainer._step(position))
                position.add(taken[-1], 0.0)
            _wait(device)
            return taken, time.perf_counter() - begun

        begun = time.perf_counter()
        first, _ = take(warm_up)
        seconds_to_start = time.perf_counter() - begun
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        taken, seconds = take(steps)
        flops = training_flops_per_token(shape, configuration.sequence_length)
        per_second = steps * configuration.batch_tokens / seconds
        alone = configuration.parallel
        planned = training_memory(shape, configuration, alone, alone.sizes(1), configuration.micro_batch_rows)
        busiest = [value for key, value in taken[-1].watched.items() if key.startswith("router_max_share")]
        return {
            "parameters": shape.num_parameters(),
            "steps": steps,
            "seconds": seconds,
            "warm_up_seconds": seconds_to_start,
            "tokens_per_second": per_second,
            "mfu": utilisation(per_second, flops, trainer.peak),
            "mfu_formula": explain(flops, trainer.peak),
            "of the product's FLOP/s": per_second * flops / rate,
            "product_flops_per_second": rate,
            "bytes": bytes_by_part(trainer, peak_memory_bytes(device)),
            "planned_bytes": planned.total,
            "first_loss": first[0].loss,
            "last_loss": taken[-1].loss,
            "busiest_experts_share": statistics.mean(busiest) if busiest else None,
        }


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
