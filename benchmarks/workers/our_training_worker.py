"""Training by our trainer: `our_training_worker.py JOB`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from training_protocol import Job, read_job, serve

from vernacular.foundation.allocator import keep_freed_memory
from vernacular.models.decoder import Decoder
from vernacular.models.weights import load_decoder
from vernacular.tokens.order import Order
from vernacular.tokens.packing import Batch, PackedRows, pack_best_fit
from vernacular.training.batch import TensorBatch
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.objectives.next_token import next_token_loss, read
from vernacular.training.objectives.objective import Loss
from vernacular.training.position import Position
from vernacular.training.trainer import Trainer

CHUNK_TOKENS = 512


class Rows:
    """Rows of documents, each a list of ids; `order` is the trainer's, which is to take them one after the other."""

    def __init__(self, rows: Sequence[Sequence[NDArray[np.int64]]], tokens: int, order: Order) -> None:
        self.tokens = tokens
        batches = range(len(rows) // order.batch_size)
        places = [index for batch in batches for index in order.indices(batch)]
        self.rows = {place: rows[number] for number, place in enumerate(places)}

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int]) -> Batch:
        """As `PackedRows`."""
        shape = (len(indices), self.tokens + 1)
        ids, documents = np.zeros(shape, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
        positions = np.zeros(shape, dtype=np.int64)
        for row, index in enumerate(indices):
            start = 0
            for number, document in enumerate(self.rows[index]):
                here = slice(start, start + len(document))
                ids[row, here], documents[row, here] = document, number
                positions[row, here], start = np.arange(len(document)), here.stop
        known = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)
        return Batch(
            ids_BT=ids[:, :-1].copy(),
            targets_BT=ids[:, 1:].copy(),
            weights_BT=known.astype(np.float32),
            positions_BT=positions[:, :-1].copy(),
            documents_BT=documents[:, :-1].copy(),
            names=tuple((str(index),) for index in indices),
        )


class Objective:
    """The next token of given rows."""

    data_hash = "given"

    def __init__(self, given: Rows) -> None:
        self._given = given

    def rows(self, split: str) -> PackedRows | None:
        """The given rows, to train on."""
        return cast("PackedRows", self._given) if split == "train" else None

    def read(self, decoder: Decoder, batch: TensorBatch) -> Tensor:
        """Hidden states of every token."""
        return read(decoder, batch)

    def loss(self, decoder: Decoder, hidden_BTD: Tensor, batch: TensorBatch) -> Loss:
        """Cross-entropy of the next token."""
        return next_token_loss(decoder, hidden_BTD, batch, chunk_tokens=CHUNK_TOKENS)

    def divisor(self, batch: Batch) -> float:
        """Its targets."""
        return float(batch.weights_BT.sum())


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
    given = Rows(rows, job.tokens, Order(len(rows), job.rows, configuration.seed))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(configuration, Objective(given), load_decoder(job.weights), Path(folder), name="benchmark")
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
