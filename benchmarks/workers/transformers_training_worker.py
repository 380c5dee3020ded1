"""Training of a transformers model in a plain loop: `transformers_training_worker.py JOB`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from training_protocol import Job, read_job, serve
from transformers import AutoModelForCausalLM

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def train(model: torch.nn.Module, forward: Forward, job: Job) -> None:
    """Serve AdamW steps on `job`'s batches; `forward(ids, targets)` is the mean loss."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=job.learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
    )
    batches = torch.from_numpy(np.load(job.batches))

    def step(number: int) -> tuple[float, int]:
        ids, targets = batches[number, :, :-1].contiguous(), batches[number, :, 1:].contiguous()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=job.precision == "bfloat16"):
            loss = forward(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.item(), ids.numel()

    serve(step)


def main() -> None:
    job = read_job()
    torch.set_num_threads(job.threads)
    model = AutoModelForCausalLM.from_pretrained(job.weights, dtype=torch.float32).train()
    model.config.use_cache = False

    def forward(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        # As transformers' own loss: in float32.
        return cross_entropy(model(input_ids=ids).logits.float().flatten(0, 1), targets.flatten())

    train(model, torch.compile(forward) if job.compiled else forward, job)


if __name__ == "__main__":
    main()
