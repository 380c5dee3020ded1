"""Training of a transformers model as nanoGPT trains, for so many seconds: `transformers_learning_worker.py JOB`.

AdamW with betas 0.9 and 0.95, decay 0.1 of the matrices, gradients clipped at 1; a linear warm-up and a cosine to a
tenth of the rate, both over the time, so that the whole of it is used. A row is read as it stands, across its
documents. Products are in whichever of float32 and bfloat16 is the faster here. Batches are made before the clock
starts.
"""

from __future__ import annotations

import math
import time

import torch
from learning_protocol import Job, Lesson, Outcome, read_job, serve
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from vernacular.tokens.order import Order
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shards import ShardReader

WARMUP_SHARE, FLOOR = 0.05, 0.1
NOT_ASKED = -100
TRIAL_STEPS = 20


class Batches:
    """The recipe's rows in the recipe's order, as tensors."""

    def __init__(self, job: Job, split: str) -> None:
        length = job.settings["sequence_length"]
        self.rows = PackedRows(ShardReader.open(job.tokens, split), length)
        self.size = job.settings["batch_tokens"] // length
        self.order = Order(len(self.rows), self.size, job.settings.get("seed", 0))

    def of(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """What is read, and what is asked for."""
        batch = self.rows.batch(indices)
        targets = torch.from_numpy(batch.targets_BT)
        return torch.from_numpy(batch.ids_BT), targets.masked_fill(torch.from_numpy(batch.weights_BT) == 0, NOT_ASKED)


class Student:
    """A model, and the loop it learns in."""

    def __init__(self, job: Job, precision: torch.dtype, learning_rate: float) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(job.weights, dtype=torch.float32).train()
        self.model.config.use_cache = False
        self.precision, self.rate = precision, learning_rate
        matrices = [weight for weight in self.model.parameters() if weight.dim() > 1]
        vectors = [weight for weight in self.model.parameters() if weight.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)

    def loss(self, ids: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in float32, as transformers' own."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision is torch.bfloat16):
            logits = self.model(input_ids=ids).logits
        return cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=NOT_ASKED, reduction=reduction
        )

    def step(self, ids: Tensor, targets: Tensor, progress: float) -> None:
        """One step, at the rate of this share of the time."""
        fall = (progress - WARMUP_SHARE) / (1 - WARMUP_SHARE)
        share = FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * fall)) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * min(share, progress / WARMUP_SHARE)
        self.loss(ids, targets).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def main() -> None:
    job = read_job()
    torch.set_num_threads(job.threads)
    train, heldout = Batches(job, "train"), Batches(job, "heldout")

    def seconds_of(precision: torch.dtype) -> float:
        student, batch = Student(job, precision, 1e-3), train.of(train.order.indices(0))
        student.step(*batch, progress=1.0)
        begun = time.perf_counter()
        for _ in range(TRIAL_STEPS):
            student.step(*batch, progress=1.0)
        return time.perf_counter() - begun

    precision = min(torch.float32, torch.bfloat16, key=seconds_of)
    made: list[tuple[Tensor, Tensor]] = []

    def learn(lesson: Lesson) -> Outcome:
        assert lesson.learning_rate is not None
        student = Student(job, precision, lesson.learning_rate)
        enough = int(3 * lesson.seconds * TRIAL_STEPS / seconds_of(precision))
        made.extend(train.of(train.order.indices(step)) for step in range(len(made), enough))
        begun, steps = time.perf_counter(), 0
        while (passed := time.perf_counter() - begun) < lesson.seconds:
            student.step(*made[steps], progress=passed / lesson.seconds)
            steps += 1
        seconds = time.perf_counter() - begun
        student.model.eval()
        nats = targets = 0.0
        with torch.no_grad():
            for first in range(0, len(heldout.rows), heldout.size):
                batch = heldout.of(list(range(first, min(len(heldout.rows), first + heldout.size))))
                nats += student.loss(*batch, reduction="sum").item()
                targets += (batch[1] != NOT_ASKED).sum().item()
        return Outcome(steps, seconds, nats / targets)

    serve(learn)


if __name__ == "__main__":
    main()
