"""The training loop. What is learned is the objective's; where it stands is the checkpoint's; this is the rest."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from vernacular.foundation.allocator import keep_freed_memory
from vernacular.foundation.errors import UserError
from vernacular.foundation.machine import usable_cores
from vernacular.foundation.progress import progress
from vernacular.models.decoder import Decoder
from vernacular.models.training_kernels import use_native_kernels
from vernacular.tokens.order import Order
from vernacular.tokens.packing import Batch, PackedRows
from vernacular.training.batch import TensorBatch, num_text_tokens, to_tensors
from vernacular.training.checkpoint import Checkpoints
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.metrics import Metrics, read_metrics
from vernacular.training.objectives.objective import Objective
from vernacular.training.optimisers.optimiser import build_optimiser, set_learning_rate
from vernacular.training.position import Position, StepResult, Window
from vernacular.training.probe import Probe
from vernacular.training.report import describe, summarise
from vernacular.training.routers import Routers
from vernacular.training.schedule import Course, adapted, learning_rate
from vernacular.training.spikes import SpikeRule
from vernacular.training.throughput import explain, find_peak, training_flops_per_token, utilisation
from vernacular.training.watch import Profiler, UpdateRatio, peak_memory_bytes

_NAMED_DOCUMENTS = 8


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
        probes: Sequence[Probe] = (),
    ) -> None:
        self.configuration = configuration
        self.objective = objective
        self.device = torch.device(device)
        self.decoder = decoder.to(self.device).train()
        if configuration.precision == "bfloat16-pure":
            _make_bfloat16(self.decoder)
        self.native = configuration.compute_natively(self.device.type)
        if self.native:
            use_native_kernels(self.decoder)
        self.name = name
        self.folder = folder
        self.probes = probes
        self.optimiser = build_optimiser(
            self.decoder, configuration.optimiser, rounding=configuration.rounding or "nearest", seed=configuration.seed
        )
        self.routers = Routers(self.decoder, configuration.router_z_loss)
        self.update_ratio = UpdateRatio(self.decoder)
        self.spikes = SpikeRule(configuration.spikes, folder, name)
        self.checkpoints = Checkpoints(folder, configuration.keep_checkpoints, self.spikes.return_every)
        self.train_rows = _train_rows(objective)
        self.heldout_rows = objective.rows("heldout")
        self.order = Order(len(self.train_rows), configuration.batch_rows, configuration.seed)
        self.steps = configuration.num_steps(len(self.train_rows))
        self.course = Course(self.steps, configuration.batch_rows, configuration.batch_tokens)
        self.flops_per_token = training_flops_per_token(decoder.configuration, configuration.sequence_length)
        self.peak = find_peak(configuration.precision.removesuffix("-pure"), self.device)

    def fit(self) -> dict[str, Any]:
        """Train to the last step; returns the summary of the run. Weights are left in `self.decoder`."""
        position = self._restore()
        keep_freed_memory()
        torch.set_num_threads(position.threads)
        if self.configuration.compile:
            for block in self.decoder.blocks:
                block.compile()
        metrics = Metrics(self.folder, first_step=position.step, wandb=self.configuration.wandb, name=self.name)
        profiler = Profiler(self.configuration.profile, self.folder, self.device)
        try:
            with progress(doing=f"training {self.name}", total=self.steps, unit="steps", initial=position.step) as bar:
                while position.step < self.steps:
                    begun = time.perf_counter()
                    with profiler.around(position.step + 1):
                        result = self._step(position)
                    if result.is_spike:
                        bar.write(self.spikes.note(position, result), file=sys.stderr)
                    if result.is_spike and self.spikes.return_every:
                        position = self._go_back(position)
                        metrics.cut_back(position.step)
                        bar.update(position.step - bar.n)
                        continue
                    position.add(result, time.perf_counter() - begun)
                    bar.update(1)
                    if self._is_logged(position.step):
                        line = self._measure(position)
                        metrics.write(position.step, line)
                        bar.set_postfix_str(f"loss {line['loss'] or math.nan:.3f}", refresh=False)
                    if self._is_due(position.step, self.configuration.checkpoint_every, self.spikes.return_every):
                        self.checkpoints.save(self.decoder, self.optimiser, position)
        finally:
            profiler.close()
            metrics.close()
        return self._summary(position)

    def _restore(self) -> Position:
        """The position to go on from; a fresh run stands at step 0."""
        data = self.objective.data_hash
        position = self.checkpoints.restore(self.decoder, self.optimiser, data=data)
        if position is None:
            position = Position(threads=self.configuration.threads or usable_cores(), data=data)
            if self.spikes.return_every:
                self.checkpoints.save(self.decoder, self.optimiser, position)
        return position

    def _go_back(self, spike: Position) -> Position:
        """The position of the last return point, from where the batch after the spike's is the next."""
        self.checkpoints.go_back(spike.step)
        position = self._restore()
        position.batch, position.spikes, position.seconds = spike.batch + 1, spike.spikes, spike.seconds
        return position

    def _is_due(self, done: int, *periods: int | None) -> bool:
        """Whether a period ends with the step just done; all end with the last step."""
        return done == self.steps or any(period is not None and done % period == 0 for period in periods)

    def _is_logged(self, done: int) -> bool:
        """Whether a line of metrics is written after so many steps."""
        probed = (probe.every for probe in self.probes)
        return self._is_due(done, self.configuration.log_every, self.configuration.heldout_every, *probed)

    def _step(self, position: Position) -> StepResult:
        """One optimiser step over the global batch, in micro-batches; a spike leaves the weights as they are."""
        indices, rows = self.order.indices(position.batch), self.configuration.micro_batch_rows
        batches = [self.train_rows.batch(indices[start : start + rows]) for start in range(0, len(indices), rows)]
        result = self._accumulate(batches, position.step)
        norm = nn.utils.clip_grad_norm_(self.decoder.parameters(), self.configuration.optimiser.clip or math.inf).item()
        if not math.isfinite(norm) and self.configuration.spikes is None:
            self._refuse(f"the gradient of step {position.step + 1} is not finite", _names_in(batches))
        result = replace(result, gradient_norm=norm, learning_rate=self._rate(position.step, batches))
        if self.spikes.is_spike(position, result):
            result = replace(result, is_spike=True)
        else:
            self.spikes.remember(position, result)
            result = replace(result, watched={**result.watched, **self._update(position.step, result.learning_rate)})
        self.optimiser.zero_grad(set_to_none=True)
        return result

    def _accumulate(self, batches: Sequence[Batch], step: int) -> StepResult:
        """The gradient of the global batch's mean loss, however it is cut into micro-batches."""
        weight = float(sum(batch.weights_BT.sum(dtype="float64") for batch in batches))
        if weight == 0:
            raise UserError(
                f"step {step + 1} has no token to learn from",
                where=f"stage {self.name}, documents {_listed(_names_in(batches))}",
                fix="remove these documents, or raise batch_tokens",
            )
        divisor = sum(self.objective.divisor(batch) for batch in batches)
        tokens = sum(num_text_tokens(batch) for batch in batches)
        nats = correct = squares = balance = router_squares = 0.0
        for batch in batches:
            part = self._tensors(batch)
            with self._autocast(), self.routers.listening():
                loss = self.objective.loss(self.decoder, part)
            if not math.isfinite(value := loss.total.item()) and self.configuration.spikes is None:
                self._refuse(f"the loss of step {step + 1} is {value}", batch.document_names())
            total = loss.total / divisor
            if self.routers:
                routing, share = self.routers.loss(part.is_text_BT), num_text_tokens(batch) / tokens
                total = total + share * routing.total
                balance += share * routing.balance.item()
                router_squares += share * routing.squares.item()
            total.backward()
            nats, correct = nats + loss.nats.item(), correct + loss.correct.item()
            squares += loss.squares.item()
        load = self.routers.load(part.is_text_BT) if self.routers and self._is_logged(step + 1) else {}
        return StepResult(
            nats / weight, correct / weight, weight, squares / weight, balance, router_squares, watched=load
        )

    def _rate(self, step: int, batches: Sequence[Batch]) -> float:
        """The learning rate of a step; Bielik's depends on how much of its batch is learned from."""
        rate = learning_rate(self.configuration.optimiser, step, self.course)
        if not self.configuration.optimiser.adaptive:
            return rate
        loss_tokens = sum(int((batch.weights_BT > 0).sum()) for batch in batches)
        return adapted(rate, loss_tokens, self.configuration.batch_tokens)

    def _update(self, step: int, rate: float) -> dict[str, float]:
        """Change the weights by their gradients; before a line of metrics, also by how much."""
        is_watched = self._is_logged(step + 1)
        if is_watched:
            self.update_ratio.remember()
        set_learning_rate(self.optimiser, rate)
        self.optimiser.step()
        return self.update_ratio.measure() if is_watched else {}

    @torch.no_grad()
    def score_heldout(self) -> dict[str, float | None]:
        """Loss and accuracy on the first held-out rows, in nats per token."""
        if self.heldout_rows is None:
            return {}
        most = max(1, self.configuration.heldout_tokens // self.configuration.sequence_length)
        rows = min(len(self.heldout_rows), most)
        nats, correct, weight = 0.0, 0.0, 0.0
        self.decoder.eval()
        for start in range(0, rows, self.configuration.micro_batch_rows):
            indices = list(range(start, min(rows, start + self.configuration.micro_batch_rows)))
            batch = self._tensors(self.heldout_rows.batch(indices))
            with self._autocast():
                result = self.objective.loss(self.decoder, batch)
            nats += result.nats.item()
            correct += result.correct.item()
            weight += batch.weights_BT.sum().item()
        self.decoder.train()
        if weight == 0:
            return {}
        return {"heldout_loss": nats / weight, "heldout_accuracy": correct / weight}

    @torch.no_grad()
    def _probe(self, step: int) -> dict[str, float]:
        """What the probes that are due find."""
        found: dict[str, float] = {}
        self.decoder.eval()
        for probe in self.probes:
            if self._is_due(step, probe.every):
                found |= {f"{probe.name}/{key}": value for key, value in probe.measure(self.decoder).items()}
        self.decoder.train()
        return found

    def _tensors(self, batch: Batch) -> TensorBatch:
        return to_tensors(batch, self.device, document_mask=self.configuration.document_mask, native=self.native)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.configuration.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _measure(self, position: Position) -> dict[str, float | None]:
        """A line of metrics over the steps since the last one, which begins the next window."""
        window, position.window = position.window, Window()
        line = describe(position, window, batch_tokens=self.configuration.batch_tokens, has_routers=bool(self.routers))
        line["mfu"] = utilisation(line["tokens_per_second"] or 0.0, self.flops_per_token, self.peak)
        line["peak_memory_bytes"] = peak_memory_bytes(self.device)
        if self.configuration.spikes is not None:
            line["spikes"] = position.spikes
        if self._is_due(position.step, self.configuration.heldout_every):
            line |= self.score_heldout()
        return line | self._probe(position.step)

    def _summary(self, position: Position) -> dict[str, Any]:
        summary = summarise(position, read_metrics(self.folder)[-1], batch_tokens=self.configuration.batch_tokens)
        mfu = utilisation(summary["tokens_per_second"], self.flops_per_token, self.peak)
        return {
            "parameters": self.decoder.configuration.num_parameters(),
            "epochs": round(self.steps * self.configuration.batch_rows / len(self.train_rows), 3),
            **summary,
            "mfu": None if mfu is None else round(mfu, 4),
            "mfu_formula": explain(self.flops_per_token, self.peak),
        }

    def _refuse(self, message: str, documents: Sequence[str]) -> NoReturn:
        raise UserError(
            message,
            where=f"stage {self.name}, documents {_listed(documents)}",
            fix="look at these documents; lower optimiser.learning_rate or raise warmup_steps; use float32; or set"
            " spikes to leave such steps out",
        )


def _make_bfloat16(decoder: Decoder) -> None:
    """Weights in bfloat16; their gradients add up in float32."""
    decoder.to(torch.bfloat16)
    for parameter in decoder.parameters():
        parameter.grad_dtype = torch.float32


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
