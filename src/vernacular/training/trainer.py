"""The training loop. What is learned is the objective's; where it stands is the checkpoint's; this is the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from vernacular.foundation.allocator import keep_freed_memory
from vernacular.foundation.errors import MachineError, UserError, unknown_name
from vernacular.foundation.machine import usable_cores
from vernacular.models.decoder import Decoder
from vernacular.models.training_kernels import use_native_kernels
from vernacular.parallel.apply import Spread, spread
from vernacular.parallel.fill import fill
from vernacular.parallel.mesh import Mesh, open_mesh
from vernacular.parallel.processes import processes_here, this_process
from vernacular.parallel.state import gather_decoder
from vernacular.tokens.packing import Batch
from vernacular.training.checkpoint import Checkpoints
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.forgetting import StopRule
from vernacular.training.heldout import Heldout
from vernacular.training.learner import Learner, Totals
from vernacular.training.logbook import Logbook
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.objective import Objective
from vernacular.training.optimisers.optimiser import build_optimiser, set_learning_rate
from vernacular.training.position import Position, StepResult, Window
from vernacular.training.probe import Probe
from vernacular.training.report import describe, describe_cells, summarise, summarise_mixture
from vernacular.training.schedule import Course, adapted, learning_rate, require_fall
from vernacular.training.spikes import SpikeRule
from vernacular.training.stragglers import Stragglers
from vernacular.training.throughput import add_up, explain, find_peak, training_flops_per_token, utilisation
from vernacular.training.watch import UpdateRatio, peak_memory_bytes

_NAMED_DOCUMENTS = 8


class Trainer:
    """Trains a decoder on an objective, from its newest checkpoint if it has one; alone or on every rank of a mesh.

    Args:
        configuration: sizes, optimiser, precision, layout.
        objective: what is learned.
        decoder: whole, with the same weights on every rank, or without any, on the meta device; it is spread in place.
        folder: the stage's folder; the first rank alone writes there, but for the checkpoints.
        name: the stage's name, for progress and errors.
        values: of the weights of a decoder on the meta device, by name, each whole; one is asked for at a time, so that
            no rank ever holds the whole decoder.
        mesh: the ranks that train together; None: those of this process's run, on a CPU.
        probes: what else to measure.
        from_weights: the decoder has learned before, so held-out text is scored before the first step too, wherever it
            is scored at intervals.
    """

    def __init__(
        self,
        configuration: TrainingConfiguration,
        objective: Objective,
        decoder: Decoder,
        folder: Path,
        *,
        name: str,
        values: Iterable[tuple[str, Tensor]] | None = None,
        mesh: Mesh | None = None,
        probes: Sequence[Probe] = (),
        from_weights: bool = False,
    ) -> None:
        self.configuration = configuration
        self.objective = objective
        self.mesh = mesh or open_mesh(configuration.parallel)
        self.name = name
        self.folder = folder
        self.probes = probes
        configuration.require_model(decoder.configuration)
        configuration.require_shares(self.mesh.sizes.world)
        native = configuration.compute_natively(self.mesh.device.type)
        self.run = _spread(decoder, configuration, self.mesh, native=native)
        if values is not None:
            fill(decoder, values)
        self.decoder = self.run.decoder
        self.optimiser = build_optimiser(
            self.decoder, configuration.optimiser, rounding=configuration.rounding or "nearest", seed=configuration.seed
        )
        self.learner = Learner(configuration, objective, self.run, native=native)
        self.update_ratio = UpdateRatio(self.decoder, self.mesh)
        self.stragglers = Stragglers(self.mesh)
        self.spikes = SpikeRule(configuration.spikes, folder, writes=self.mesh.leads)
        self.stop = StopRule(configuration.stop)
        self.measures_start = configuration.heldout_every is not None and (
            from_weights or configuration.stop is not None
        )
        self.checkpoints = Checkpoints(
            folder, self.run, self.optimiser, configuration, return_every=self.spikes.return_every
        )
        self.train_rows = objective.rows()
        self.steps = configuration.num_steps(len(self.train_rows))
        configuration.require_steps(self.steps)
        self.order = objective.order(self.train_rows, self.steps)
        self.look_ahead = objective.look_ahead(self.train_rows, self.order)
        self.heldout = Heldout(objective.strata(), configuration.heldout_tokens // configuration.sequence_length)
        self.course = Course(self.steps, configuration.batch_rows, configuration.batch_tokens)
        require_fall(configuration.optimiser, self.course)
        self.threads = configuration.threads or max(1, usable_cores() // processes_here())
        self.flops_per_token = training_flops_per_token(decoder.configuration, configuration.sequence_length)
        own = find_peak(configuration.precision.removesuffix("-pure"), self.mesh.device, self.threads)
        self.peak = add_up(own, self.mesh)

    def fit(self) -> dict[str, Any]:
        """Train to the last step; returns the summary of the run, on the first rank. `weights` is what it leaves."""
        position = self._restore()
        keep_freed_memory()
        torch.set_num_threads(position.threads)
        try:
            with self._open_logbook(position) as logbook:
                self._measure_start(position, logbook)
                position = self._train(position, logbook)
                last_step = position.step
                if self.stop.stops(position):
                    logbook.say(self.stop.say(position))
                    position = self._last_good(position)
            self.checkpoints.finish()
        finally:
            self.checkpoints.settle()
        return self._summary(position, last_step) if self.mesh.leads else {}

    def _train(self, position: Position, logbook: Logbook) -> Position:
        while position.step < self.steps and not self.stop.stops(position):
            begun = time.perf_counter()
            with logbook.profiled(position.step + 1):
                result = self._step(position)
            if result.is_spike:
                logbook.say(self.spikes.note(position, result))
            if result.is_spike and self.spikes.return_every:
                position = self._go_back(position)
                logbook.go_back(position.step)
                continue
            position.add(result, time.perf_counter() - begun)
            logbook.count_step()
            if self._is_logged(position.step):
                self._log(position, logbook)
            if self._is_due(position.step, self.configuration.checkpoint_every, self.spikes.return_every):
                self.checkpoints.save(position)
        return position

    def _log(self, position: Position, logbook: Logbook) -> None:
        line = self._measure(position)
        logbook.write(position.step, line)
        if self._is_due(position.step, self.configuration.heldout_every):
            self.stop.judge(position, line)
        if self.stop.is_good(position):
            self.checkpoints.save_good(position)
        if slow := self.stragglers.warning(line):
            logbook.say(slow)
        if self._is_best(position, line):
            self.checkpoints.save_best(position)

    def load_best(self) -> bool:
        """Take the weights of the best checkpoint, where one is kept; whether there was one."""
        return self.configuration.keep_best is not None and self.checkpoints.load_best()

    def weights(self) -> Decoder | None:
        """The whole decoder as it stands, on the first rank; on the others None. All ranks call this."""
        return gather_decoder(self.decoder, self.mesh)

    def _open_logbook(self, position: Position) -> Logbook:
        return Logbook(
            self.folder,
            self.configuration,
            name=self.name,
            first_step=position.step,
            steps=self.steps,
            device=self.mesh.device,
            writes=self.mesh.leads,
        )

    def _restore(self) -> Position:
        """The position to go on from; a fresh run stands at step 0."""
        data, layout = self.objective.data_hash, self.mesh.layout
        position = self.checkpoints.restore(data=data)
        if position is None:
            position = Position(threads=self.threads, data=data, layout=layout)
            if self.spikes.return_every:
                self.checkpoints.save(position)
        elif position.layout != layout:
            # The same bits are not to be had any more, so neither are the same threads needed.
            position.threads, position.layout = self.threads, layout
        return position

    def _measure_start(self, position: Position, logbook: Logbook) -> None:
        """What held-out text says before the first step of a run that is to be held against it."""
        if position.step:
            return
        if self.configuration.heldout_every is not None and not self.heldout.strata:
            logbook.say("nothing is held out, so heldout_every measures nothing")
        if not self.measures_start or not (self.heldout.strata or self.configuration.stop):
            return
        line = self.score_heldout()
        self.stop.begin(position, line)
        logbook.write(0, line)

    def _last_good(self, stopped: Position) -> Position:
        """The weights, and the position, of the last step within the stop rule's bound."""
        assert stopped.forgetting is not None
        assert stopped.forgetting.good_step is not None
        return self.checkpoints.restore_good(stopped.forgetting.good_step, data=self.objective.data_hash)

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
        with self.stragglers.own_work():
            batches = self._read(position.batch)
        totals = self._totals(batches, position.step)
        result = self.learner.learn(batches, totals, self._refuse_loss(position.step))
        norm = self.run.clip(self.configuration.optimiser.clip)
        if not math.isfinite(norm) and self.configuration.spikes is None:
            self._refuse(f"the gradient of step {position.step + 1} is not finite", _names_in(batches))
        result = replace(result, gradient_norm=norm, learning_rate=self._rate(position.step, totals))
        if self.spikes.is_spike(position, result):
            result = replace(result, is_spike=True)
        else:
            self.spikes.remember(position, result)
            result = replace(result, watched={**result.watched, **self._update(position.step, result.learning_rate)})
        self.optimiser.zero_grad(set_to_none=True)
        return result

    def _read(self, number: int) -> list[Batch]:
        """This rank's micro-batches of a global batch."""
        if self.look_ahead is not None:
            self.look_ahead.begin(number)
        indices = self.order.indices(number, self.mesh.data_rank, self.mesh.sizes.data)
        rows = self.configuration.micro_batch_rows
        return [self.train_rows.batch(indices[start : start + rows]) for start in range(0, len(indices), rows)]

    def _totals(self, batches: Sequence[Batch], step: int) -> Totals:
        totals = self.learner.totals(batches)
        if totals.weight == 0:
            raise UserError(
                f"step {step + 1} has no token to learn from",
                where=f"stage {self.name}, documents {_listed(_names_in(batches))}",
                fix="remove these documents, or raise batch_tokens",
            )
        return totals

    def _rate(self, step: int, totals: Totals) -> float:
        """The learning rate of a step; Bielik's depends on how much of its batch is learned from."""
        rate = learning_rate(self.configuration.optimiser, step, self.course)
        if not self.configuration.optimiser.adaptive:
            return rate
        return adapted(rate, int(totals.loss_tokens), self.configuration.batch_tokens)

    def _update(self, step: int, rate: float) -> dict[str, float]:
        """Change the weights by their gradients; before a line of metrics, also by how much."""
        is_watched = self._is_logged(step + 1)
        if is_watched:
            self.update_ratio.remember()
        set_learning_rate(self.optimiser, rate)
        self.optimiser.step()
        return self.update_ratio.measure() if is_watched else {}

    def score_heldout(self) -> dict[str, float | None]:
        """Loss, in nats per token, and accuracy on held-out rows: of all, and of each language and source."""
        self.decoder.eval()
        line = self.heldout.score(self.learner.score)
        self.decoder.train()
        return line

    def _is_best(self, position: Position, line: Mapping[str, float | None]) -> bool:
        """Whether a line of metrics holds the best value so far of the metric to judge by, which is noted."""
        rule = self.configuration.keep_best
        if rule is None:
            return False
        known = {*line, *self.heldout.metrics}
        if rule.metric not in known and not rule.metric.startswith(tuple(f"{probe.name}/" for probe in self.probes)):
            raise unknown_name("metric", rule.metric, known, where="keep_best.metric")
        # What probes find, the first rank alone knows.
        value = line.get(rule.metric)
        (judged,) = self.mesh.gather(math.nan if value is None else value)[0]
        if math.isnan(judged) or not rule.is_better(judged, position.best):
            return False
        position.best, position.best_step = judged, position.step
        return True

    def _probe(self, step: int) -> dict[str, float]:
        """What the probes that are due find, on the first rank, which alone asks them; the others wait."""
        due = [probe for probe in self.probes if self._is_due(step, probe.every)]
        whole = self.weights() if due else None
        if not due:
            return {}
        return this_process().first(lambda: self._ask(due, whole, step)) or {}

    @torch.no_grad()
    def _ask(self, probes: Sequence[Probe], whole: Decoder | None, step: int) -> dict[str, float]:
        assert whole is not None
        found: dict[str, float] = {}
        whole.to(self.mesh.device).eval()
        for probe in probes:
            found |= {f"{probe.name}/{key}": value for key, value in probe.measure(whole, step).items()}
        self.decoder.train()
        return found

    def _measure(self, position: Position) -> dict[str, float | None]:
        """A line of metrics over the steps since the last one, which begins the next window."""
        window, position.window = position.window, Window()
        line = describe(
            position, window, batch_tokens=self.configuration.batch_tokens, has_routers=bool(self.learner.routers)
        )
        line |= describe_cells(self.order.account(position.batch), self.configuration.sequence_length)
        line["mfu"] = utilisation(line["tokens_per_second"] or 0.0, self.flops_per_token, self.peak)
        line["peak_memory_bytes"] = max(rank[0] for rank in self.mesh.gather(peak_memory_bytes(self.mesh.device)))
        line |= self.stragglers.measure(window.steps)
        if self.configuration.spikes is not None:
            line["spikes"] = position.spikes
        if self._is_due(position.step, self.configuration.heldout_every):
            line |= self.score_heldout()
        return line | self._probe(position.step)

    def _summary(self, position: Position, last_step: int) -> dict[str, Any]:
        line = next(line for line in reversed(read_metrics(self.folder)) if line["step"] == position.step)
        summary = summarise(position, line, batch_tokens=self.configuration.batch_tokens)
        mfu = utilisation(summary["tokens_per_second"], self.flops_per_token, self.peak)
        return {
            "parameters": self.decoder.configuration.num_parameters(),
            "epochs": round(position.step * self.configuration.batch_rows / len(self.train_rows), 3),
            **summary,
            **({} if position.best is None else {"best_step": position.best_step, "best": position.best}),
            **self.stop.describe(position, last_step),
            **summarise_mixture(self.order, position.batch, self.configuration.sequence_length),
            "gpus": self._gpus(),
            "mfu": None if mfu is None else round(mfu, 4),
            "mfu_formula": explain(self.flops_per_token, self.peak),
        }

    def _gpus(self) -> str | None:
        """What computed, as in "8 × NVIDIA H200"; None on CPUs."""
        if self.mesh.device.type != "cuda":
            return None
        return f"{self.mesh.sizes.world} × {torch.cuda.get_device_name(self.mesh.device)}"

    def _refuse_loss(self, step: int) -> Callable[[float, Sequence[str]], None]:
        """Refuses a loss of that step which is no finite number, where no rule for spikes leaves it out."""

        def refuse(value: float, documents: Sequence[str]) -> None:
            if self.configuration.spikes is None:
                self._refuse(f"the loss of step {step + 1} is {value}", documents)

        return refuse

    def _refuse(self, message: str, documents: Sequence[str]) -> NoReturn:
        raise UserError(
            message,
            where=f"stage {self.name}, documents {_listed(documents)}",
            fix="look at these documents; lower optimiser.learning_rate or raise warmup_steps; use float32; or set"
            " spikes to leave such steps out",
        )


def open_training_mesh(configuration: TrainingConfiguration) -> Mesh:
    """The mesh that a stage is trained on: the run's processes, each with its GPU where there are any."""
    has_gpu = torch.cuda.is_available()
    if configuration.device == "cuda" and not has_gpu:
        raise MachineError("there is no GPU that torch can use", where="device", fix="leave it out, or set device: cpu")
    return open_mesh(configuration.parallel, configuration.device or ("cuda" if has_gpu else "cpu"))


def _spread(decoder: Decoder, configuration: TrainingConfiguration, mesh: Mesh, *, native: bool) -> Spread:
    """The decoder on its device, in its precision, over the mesh."""
    decoder.train()
    if not any(weight.is_meta for weight in decoder.parameters()):
        decoder.to(mesh.device)
    if configuration.precision == "bfloat16-pure":
        decoder.to(torch.bfloat16)
    if native:
        use_native_kernels(decoder)
    return spread(
        decoder,
        configuration.parallel,
        mesh,
        sequence_length=configuration.sequence_length,
        compile=configuration.compile,
    )


def _names_in(batches: Sequence[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.document_names()]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_DOCUMENTS])
    return shown if len(names) <= _NAMED_DOCUMENTS else f"{shown} and {len(names) - _NAMED_DOCUMENTS} more"
