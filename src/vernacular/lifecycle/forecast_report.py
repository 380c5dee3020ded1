"""A forecast in words: every figure with its formula, every assumption with its source."""

from __future__ import annotations

from collections.abc import Sequence

from vernacular.lifecycle.forecast import Cluster, Forecast, assumption, forward_passes, utilisations
from vernacular.lifecycle.layout import Layout
from vernacular.lifecycle.memory import Memory, averages_size, weight_size
from vernacular.models.configuration import DecoderConfiguration
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.training.configuration import TrainingConfiguration


def describe(
    name: str, shape: DecoderConfiguration, training: TrainingConfiguration, cluster: Cluster, found: Forecast
) -> str:
    """One stage's forecast, a line for each part."""
    gpu, layout = cluster.gpu, found.layout
    peak, utilisation = gpu.peak(training.precision), utilisations()[found.situation].value
    active = shape.num_active_parameters()
    is_mixture = active != shape.num_parameters()
    per_token = found.step_flops / training.batch_tokens
    speed = training.batch_tokens / found.step_seconds / cluster.gpus
    passes = forward_passes(shape, training, layout)
    again = "" if passes == 1 else f" × {passes + 2}/3 ({passes} forward passes)"
    lines = {
        "parameters": f"{shape.num_parameters():,}" + (f", {active:,} of them for each token" if is_mixture else ""),
        "layout": _layout(layout, training),
        "settings": f"parallel: {_settings(layout.parallel)}, micro_batch_tokens: "
        f"{layout.micro_rows * training.sequence_length}",
        "memory a GPU": _memory(layout.memory, shape, training)
        + f" = {layout.memory.total / 1e9:.1f} of {gpu.memory / 1e9:.0f} GB",
        "operations": f"{per_token:.3e} a token (3 × forward) × {training.batch_tokens:,} tokens a step"
        f" = {found.step_flops:.3e}",
        "step": f"{found.step_flops:.3e}{again} ÷ ({cluster.gpus} × {peak / 1e12:.0f} TFLOP/s × {utilisation})"
        f" = {found.step_seconds:.3g} s; {speed:,.0f} tokens/s a GPU",
        **_whole(training, cluster, found),
    }
    width = max(len(key) for key in lines)
    return "\n".join([f"{name}:", *(f"  {key.ljust(width)}  {line}" for key, line in lines.items())])


def sources(situations: Sequence[str]) -> str:
    """The assumptions behind the forecasts printed above, with their origin."""
    said = {f"utilisation, {name}": utilisations()[name] for name in sorted(set(situations))}
    said |= {name: assumption(name) for name in ("availability", "pue", "kg_co2_per_kwh", "fill")}
    return "\n".join(["assumed:", *(f"  {name} {one.value}: {one.source}" for name, one in said.items())])


def _layout(layout: Layout, training: TrainingConfiguration) -> str:
    sizes, parallel = layout.sizes, layout.parallel
    parts = [f"data {sizes.data_replicate} × {sizes.data_shard} (replicas × shards), zero_stage {parallel.zero_stage}"]
    cuts = {"pipeline": sizes.pipeline, "context": sizes.context, "tensor": sizes.tensor, "expert": parallel.expert}
    parts += [f"{name} {size}" for name, size in cuts.items() if size > 1]
    parts.append(f"checkpointing {parallel.activation_checkpointing}")
    rows = f"{layout.micro_rows} row{'s' if layout.micro_rows > 1 else ''}"
    parts.append(f"micro-batches of {rows} of {training.sequence_length} tokens, {layout.micro_batches} a step")
    return ", ".join(parts)


def _settings(parallel: ParallelConfiguration) -> str:
    """The settings that differ from the defaults, as YAML."""
    changed = {key: value for key, value in parallel.model_dump().items() if value != _DEFAULTS[key]}
    return "{" + ", ".join(f"{key}: {value}" for key, value in changed.items()) + "}"


def _memory(memory: Memory, shape: DecoderConfiguration, training: TrainingConfiguration) -> str:
    sizes = {
        "weights": f"weights ({weight_size(training):g} bytes each)",
        "gradients": "gradients (4)",
        "optimiser": f"{training.optimiser.name} ({averages_size(training, shape):.3g})",
        "gathered": "gathered",
        "activations": "activations",
        "logits": "logits",
    }
    return " + ".join(f"{words} {getattr(memory, part) / 1e9:.1f}" for part, words in sizes.items())


def _whole(training: TrainingConfiguration, cluster: Cluster, found: Forecast) -> dict[str, str]:
    """The lines about the whole run."""
    if found.seconds is None or found.gpu_hours is None or found.kwh is None or found.kg_co2 is None:
        return {"run": f"epochs: {training.epochs:g}; the steps follow from the data, which is not tokenized yet"}
    assert training.steps is not None
    flops = training.steps * found.step_flops
    return {
        "run": f"{training.steps:,} steps ({flops:.3e} operations) ÷ {assumption('availability').value} available"
        f" = {found.seconds / 86400:.3g} days, {found.gpu_hours:,.0f} GPU-hours",
        "energy": f"{found.gpu_hours:,.0f} h × {cluster.gpu.watts:.0f} W × PUE {cluster.pue} = {found.kwh:,.0f} kWh"
        f" × {cluster.kg_co2_per_kwh} = {found.kg_co2:,.0f} kgCO₂",
    }


_DEFAULTS = ParallelConfiguration().model_dump()
