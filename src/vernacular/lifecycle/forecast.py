"""What a training stage will take on GPUs: time, energy, carbon dioxide; each from a formula and stated assumptions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from vernacular.foundation.errors import UserError
from vernacular.lifecycle.layout import Layout, propose
from vernacular.models.configuration import DecoderConfiguration
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.hardware import Gpu, find_gpu


@dataclass(frozen=True)
class Assumption:
    """A figure and where it comes from."""

    value: float
    source: str
    when: str = ""


@dataclass(frozen=True)
class Cluster:
    """The GPUs a plan is made for.

    Attributes:
        gpu: one of them.
        gpus: how many.
        pue: energy the building draws for each unit that the GPUs draw.
        kg_co2_per_kwh: carbon dioxide of the electricity.
    """

    gpu: Gpu
    gpus: int
    pue: float
    kg_co2_per_kwh: float


@dataclass(frozen=True)
class Forecast:
    """What a stage will take. The last four are None where the number of steps depends on artifacts not made yet.

    Attributes:
        layout: how it is spread.
        situation: which assumption of utilisation holds.
        step_flops: useful operations of a step.
        step_seconds: `step_flops × computed again / (GPUs × peak × utilisation)`.
        seconds: `steps × step_seconds / availability`.
        gpu_hours: `GPUs × seconds / 3600`.
        kwh: `gpu_hours × watts / 1000 × PUE`, every GPU drawing its most.
        kg_co2: `kwh × kg_co2_per_kwh`.
    """

    layout: Layout
    situation: str
    step_flops: float
    step_seconds: float
    seconds: float | None
    gpu_hours: float | None
    kwh: float | None
    kg_co2: float | None


def open_cluster(gpu: str, gpus: int, *, pue: float | None = None, kg_co2_per_kwh: float | None = None) -> Cluster:
    """The GPUs by name; energy and carbon as in `assumptions.yaml` where they are not given.

    Raises:
        UserError: an unknown GPU, named with the known ones; a figure that cannot be.
    """
    if gpus < 1:
        raise UserError(f"{gpus} GPUs train nothing", where="--gpus", fix="give at least 1")
    if pue is not None and not 1 <= pue < math.inf:
        raise UserError(f"a building does not draw {pue} times what is in it", where="--pue", fix="give 1 or more")
    if kg_co2_per_kwh is not None and not 0 <= kg_co2_per_kwh < math.inf:
        raise UserError(f"{kg_co2_per_kwh} is no amount", where="--kg-co2-per-kwh", fix="give 0 or more")
    return Cluster(
        gpu=find_gpu(gpu),
        gpus=gpus,
        pue=assumption("pue").value if pue is None else pue,
        kg_co2_per_kwh=assumption("kg_co2_per_kwh").value if kg_co2_per_kwh is None else kg_co2_per_kwh,
    )


def forecast(shape: DecoderConfiguration, training: TrainingConfiguration, cluster: Cluster) -> Forecast:
    """The forecast for the layout that is proposed. Raises `UserError` where none fits."""
    layout = propose(shape, training, cluster.gpu, cluster.gpus, fill=assumption("fill").value)
    return forecast_layout(shape, training, cluster, layout)


def forecast_layout(
    shape: DecoderConfiguration, training: TrainingConfiguration, cluster: Cluster, layout: Layout
) -> Forecast:
    """The forecast for a given layout."""
    name = situation(shape, layout)
    per_token = 3 * shape.forward_flops_per_token(training.sequence_length)
    step_flops = per_token * training.batch_tokens
    speed = cluster.gpus * cluster.gpu.peak(training.precision) * utilisations()[name].value
    step_seconds = step_flops * computed_again(shape, training, layout) / speed
    seconds = None if training.steps is None else training.steps * step_seconds / assumption("availability").value
    gpu_hours = None if seconds is None else cluster.gpus * seconds / 3600
    kwh = None if gpu_hours is None else gpu_hours * cluster.gpu.watts / 1000 * cluster.pue
    return Forecast(
        layout=layout,
        situation=name,
        step_flops=step_flops,
        step_seconds=step_seconds,
        seconds=seconds,
        gpu_hours=gpu_hours,
        kwh=kwh,
        kg_co2=None if kwh is None else kwh * cluster.kg_co2_per_kwh,
    )


def situation(shape: DecoderConfiguration, layout: Layout) -> str:
    """The name, in `assumptions.yaml`, of the utilisation that holds for a decoder spread like this."""
    if shape.num_experts:
        return "experts"
    return "cut" if max(layout.sizes.tensor, layout.sizes.context, layout.sizes.pipeline) > 1 else "sharded"


def computed_again(shape: DecoderConfiguration, training: TrainingConfiguration, layout: Layout) -> float:
    """Factor of the time, a backward pass taking as long as two forward ones."""
    return (forward_passes(shape, training, layout) + 2) / 3


def forward_passes(shape: DecoderConfiguration, training: TrainingConfiguration, layout: Layout) -> int:
    """How often a micro-batch goes forward: full checkpointing does it again, selective repeats no product.

    Once more where the experts that the whole batch chose are counted first.
    """
    again = layout.parallel.activation_checkpointing == "full"
    counted = shape.num_experts and training.counts_ahead(layout.micro_batches, layout.sizes.pipeline)
    return 1 + bool(again) + bool(counted)


def utilisations() -> dict[str, Assumption]:
    """Useful share of the peak, by situation."""
    return {name: Assumption(**entry) for name, entry in _table()["utilisation"].items()}


def assumption(name: str) -> Assumption:
    """One of the other figures: availability, pue, kg_co2_per_kwh, fill."""
    return Assumption(**_table()[name])


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(
        (files("vernacular.lifecycle") / "assumptions.yaml").read_text(encoding="utf-8")
    )
    return table
