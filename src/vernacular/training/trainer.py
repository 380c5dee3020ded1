"""The training loop. What is learned is the objective's; where it stands is the checkpoint's; this is the rest."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vernacular.foundation.allocator import keep_freed_memory
from vernacular.foundation.errors import UserError
from vernacular.foundation.machine import usable_cores
from vernacular.foundation.progress import progress
from vernacular.models.decoder import Decoder
from vernacular.tokens.order import Order
from vernacular.tokens.packing import Batch, PackedRows
from vernacular.training.batch import TensorBatch, to_tensors
from vernacular.training.checkpoint import Checkpoints
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.metrics import Metrics, read_metrics
from vernacular.training.objectives.objective import Objective
from vernacular.training.optimiser import build_optimiser, set_learning_rate
from vernacular.training.position import Position, StepResult, Window
from vernacular.training.schedule import Course, learning_rate
from vernacular.training.throughput import explain, find_peak, training_flops_per_token, utilisation

_NAMED_DOCUMENTS = 8
_LARGEST_EXPONENT = 700.0  # of a float


class Trainer:
    """Trains a decoder on an objective, from its newest checkpoint if it has one."""

    def __init__(
        self,
        configuration: TrainingConfiguration,
        objective: Objective,
        decoder: Decoder,
        folder: Path,
        *,
        name: str,
        device: str = "cpu",
    ) -> None:
        self.configuration = configuration
        self.objective = objective
        self.device = torch.device(device)
        self.decoder = decoder.to(self.device).train()
        self.name = name
        self.folder = folder
        self.optimiser = build_optimiser(self.decoder, configuration.optimiser)
        self.checkpoints = Checkpoints(folder, configuration.keep_checkpoints)
        self.train_rows = _train_rows(objective)
        self.heldout_rows = objective.rows("heldout")
        self.order = Order(len(self.train_rows), configuration.batch_rows, configuration.seed)
        self.steps = configuration.num_steps(len(self.train_rows))
        self.course = Course(self.steps, configuration.batch_rows, configuration.batch_tokens)
        self.flops_per_token = training_flops_per_token(decoder.configuration, configuration.sequence_length)
        self.peak = find_peak(configuration.precision, self.device)

    def fit(self) -> dict[str, Any]:
        """Train to the last step; returns the summary of the run. Weights are left in `self.decoder`."""
        position = self._restore()
        keep_freed_memory()
        torch.set_num_threads(position.threads)
        if self.configuration.compile:
            for block in self.decoder.blocks:
                block.compile()
        metrics = Metrics(self.folder, first_step=position.step, wandb=self.configuration.wandb, name=self.name)
        try:
            with progress(doing=f"training {self.name}", total=self.steps, unit="steps", initial=position.step) as bar:
                for step in range(position.step, self.steps):
                    begun = time.perf_counter()
                    position.add(self._step(step), time.perf_counter() - begun)
                    bar.update(1)
                    if self._is_due(position.step, self.configuration.log_every, self.configuration.heldout_every):
                        line = self._measure(position)
                        metrics.write(position.step, line)
                        bar.set_postfix_str(f"loss {line['loss']:.3f}", refresh=False)
                    if self._is_due(position.step, self.configuration.checkpoint_every):
                        self.checkpoints.save(self.decoder, self.optimiser, position)
        finally:
            metrics.close()
        return self._summary(position)

    def _restore(self) -> Position:
        """The position to go on from; a fresh run stands at step 0."""
        data = self.objective.data_hash
        position = self.checkpoints.restore(self.decoder, self.optimiser, data=data)
        return position or Position(threads=self.configuration.threads or usable_cores(), data=data)

    def _is_due(self, done: int, *periods: int | None) -> bool:
        """Whether a period ends with the step just done; all end with the last step."""
        return done == self.steps or any(period is not None and done % period == 0 for period in periods)

    def _step(self, step: int) -> StepResult:
        """One optimiser step over the global batch, in micro-batches; the loss is a mean over the whole of it."""
        indices, rows = self.order.indices(step), self.configuration.micro_batch_rows
        batches = [self.train_rows.batch(indices[start : start + rows]) for start in range(0, len(indices), rows)]
        weight = float(sum(batch.weights_BT.sum(dtype="float64") for batch in batches))
        if weight == 0:
            raise UserError(
                f"step {step + 1} has no token to learn from",
                where=f"stage {self.name}, documents {_listed(_names_in(batches))}",
                fix="remove these documents, or raise batch_tokens",
            )
        loss_sum, correct_sum = 0.0, 0.0
        for batch in batches:
            part = self._tensors(batch)
            with self._autocast():
                loss = self.objective.loss(self.decoder, part)
            value = loss.total.item()
            if not math.isfinite(value):
                self._refuse_loss(step, value, part)
            (loss.total / weight).backward()
            loss_sum += value
            correct_sum += loss.correct.item()
        norm = nn.utils.clip_grad_norm_(self.decoder.parameters(), self.configuration.optimiser.clip or math.inf).item()
        if not math.isfinite(norm):
            self._refuse_gradient(step, _names_in(batches))
        set_learning_rate(self.optimiser, learning_rate(self.configuration.optimiser, step, self.course))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return StepResult(loss_sum / weight, correct_sum / weight, weight, norm)

    @torch.no_grad()
    def score_heldout(self) -> dict[str, float | None]:
        """Loss and accuracy on the first held-out rows, in nats per token."""
        if self.heldout_rows is None:
            return {}
        most = max(1, self.configuration.heldout_tokens // self.configuration.sequence_length)
        rows = min(len(self.heldout_rows), most)
        loss, correct, weight = 0.0, 0.0, 0.0
        self.decoder.eval()
        for start in range(0, rows, self.configuration.micro_batch_rows):
            indices = list(range(start, min(rows, start + self.configuration.micro_batch_rows)))
            batch = self._tensors(self.heldout_rows.batch(indices))
            with self._autocast():
                result = self.objective.loss(self.decoder, batch)
            loss += result.total.item()
            correct += result.correct.item()
            weight += batch.weights_BT.sum().item()
        self.decoder.train()
        if weight == 0:
            return {}
        return {"heldout_loss": loss / weight, "heldout_accuracy": correct / weight}

    def _tensors(self, batch: Batch) -> TensorBatch:
        return to_tensors(batch, self.device, document_mask=self.configuration.document_mask)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.configuration.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _measure(self, position: Position) -> dict[str, float | None]:
        """A line of metrics over the steps since the last one, which begins the next window."""
        window, position.window = position.window, Window()
        rate = window.steps * self.configuration.batch_tokens / window.seconds
        loss = window.loss / window.weight
        line: dict[str, float | None] = {
            "tokens": position.step * self.configuration.batch_tokens,
            "loss": loss,
            "perplexity": math.exp(min(loss, _LARGEST_EXPONENT)),
            "accuracy": window.correct / window.weight,
            "learning_rate": learning_rate(self.configuration.optimiser, position.step - 1, self.course),
            "gradient_norm": window.gradient_norm,
            "tokens_per_second": rate,
            "mfu": utilisation(rate, self.flops_per_token, self.peak),
            "seconds": position.seconds,
        }
        return line | (self.score_heldout() if self._is_due(position.step, self.configuration.heldout_every) else {})

    def _summary(self, position: Position) -> dict[str, Any]:
        last = read_metrics(self.folder)[-1]
        tokens = self.steps * self.configuration.batch_tokens
        rate = tokens / position.seconds
        mfu = utilisation(rate, self.flops_per_token, self.peak)
        return {
            "parameters": self.decoder.configuration.num_parameters(),
            "steps": self.steps,
            "tokens": tokens,
            "epochs": round(self.steps * self.configuration.batch_rows / len(self.train_rows), 3),
            "final_loss": last["loss"],
            "final_accuracy": last["accuracy"],
            "heldout_loss": last.get("heldout_loss"),
            "heldout_accuracy": last.get("heldout_accuracy"),
            "seconds": round(position.seconds, 1),
            "tokens_per_second": round(rate, 1),
            "mfu": None if mfu is None else round(mfu, 4),
            "mfu_formula": explain(self.flops_per_token, self.peak),
        }

    def _refuse_loss(self, step: int, value: float, batch: TensorBatch) -> None:
        raise UserError(
            f"the loss of step {step + 1} is {value}",
            where=f"stage {self.name}, documents {_listed(batch.names())}",
            fix="look at these documents; lower optimiser.learning_rate or raise warmup_steps; or use float32",
        )

    def _refuse_gradient(self, step: int, names: list[str]) -> None:
        raise UserError(
            f"the gradient of step {step + 1} is not finite",
            where=f"stage {self.name}, documents {_listed(names)}",
            fix="look at these documents; lower optimiser.learning_rate or raise warmup_steps; or use float32",
        )


def _train_rows(objective: Objective) -> PackedRows:
    rows = objective.rows("train")
    if rows is None:
        raise UserError("there is no text to train on", where="split train", fix="give the corpus more text")
    return rows


def _names_in(batches: Sequence[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.document_names()]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_DOCUMENTS])
    return shown if len(names) <= _NAMED_DOCUMENTS else f"{shown} and {len(names) - _NAMED_DOCUMENTS} more"
