"""Training by our trainer: `our_training_worker.py JOB`."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from given_rows import GivenRows, NextOfGiven
from numpy.typing import NDArray
from training_protocol import Job, read_job, serve

from vernacular.foundation.allocator import keep_freed_memory
from vernacular.models.weights import load_decoder
from vernacular.tokens.order import Order
from vernacular.tokens.packing import pack_best_fit
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.position import Position
from vernacular.training.trainer import Trainer

CHUNK_TOKENS = 512


def read_rows(job: Job) -> list[list[NDArray[np.int64]]]:
    """The rows of all steps: one document each, or conversations packed."""
    given = np.load(job.batches)
    if isinstance(given, np.ndarray):
        return [[row] for batch in given for row in batch]
    conversations = np.split(given["ids"], np.cumsum(given["lengths"])[:-1])
    items, starts = pack_best_fit(given["lengths"], job.tokens + 1)
    rows = [[conversations[item] for item in items[a:b]] for a, b in pairwise(starts)]
    order = np.random.default_rng(0).permutation(len(rows) // job.rows * job.rows)  # best-fit puts the long ones first
    return [rows[place] for place in order]


def main() -> None:
    job = read_job()
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    rows = read_rows(job)
    configuration = TrainingConfiguration.model_validate(
        {
            "steps": len(rows) // job.rows,
            "sequence_length": job.tokens,
            "batch_tokens": job.rows * job.tokens,
            "precision": job.precision,
            "threads": job.threads,
            "log_every": 1 << 30,
            "optimiser": {"learning_rate": job.learning_rate, "schedule": "constant"},
        }
    )
    given = GivenRows(rows, job.tokens, Order(len(rows), job.rows, configuration.seed))
    objective, decoder = NextOfGiven(given, CHUNK_TOKENS), load_decoder(job.weights)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(configuration, objective, decoder, Path(folder), name="benchmark")
        position = Position(threads=job.threads, data="given")

        def step(number: int) -> tuple[float, int]:
            if number != position.step:
                raise ValueError(f"step {number} asked for at step {position.step}")
            result = trainer._step(position)
            position.add(result, 0.0)
            first = number * job.rows
            lengths = (sum(len(document) for document in row) for row in rows[first : first + job.rows])
            return result.loss, sum(min(length, job.tokens) for length in lengths)  # a row's last token is only asked

        serve(step)


if __name__ == "__main__":
    main()
