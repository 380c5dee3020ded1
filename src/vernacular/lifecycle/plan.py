"""The plan: what a run would do, why, and what it would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vernacular.foundation.artifact import is_finished, read_artifact
from vernacular.foundation.errors import UserError
from vernacular.lifecycle.decision import Decision, decide
from vernacular.lifecycle.estimate import ASSUMED_UTILISATION, Estimate, decoder_shape, estimate, measured_flops
from vernacular.lifecycle.forecast import Cluster, Forecast, forecast
from vernacular.lifecycle.forecast_report import describe, sources
from vernacular.lifecycle.mixture_plan import describe_mixture
from vernacular.lifecycle.recipe import Recipe, load_recipe
from vernacular.lifecycle.runner import identify
from vernacular.training.configuration import TrainingConfiguration

_HEADER = ("stage", "do", "parameters", "tokens", "FLOPs", "memory", "time", "what and why")


def plan(
    recipe_path: Path, overrides: Sequence[str] = (), *, out: Path = Path("runs"), cluster: Cluster | None = None
) -> str:
    """A table of the recipe's stages with decisions and estimates; nothing is written.

    Args:
        recipe_path: the recipe's YAML file.
        overrides: dotted overrides and parameters.
        out: artifacts lie in OUT/RECIPE/STAGE.
        cluster: estimate for these GPUs, with a layout for each training stage; None estimates for this machine.
    """
    recipe = load_recipe(recipe_path, overrides)
    if out.is_file():
        raise UserError("a file stands where a folder is needed", where="--out", fix="name a folder")
    folder = out / recipe.name
    rows: list[tuple[str, ...]] = [_HEADER]
    pending: set[str] = set()
    is_estimated = False
    forecasts: dict[str, Forecast] = {}
    for name in recipe.order():
        decision = _decide(recipe, name, folder, pending)
        cost = estimate(recipe, name, folder) if cluster is None else None
        if cluster is not None and (found := _forecast(recipe, name, folder, cluster)) is not None:
            cost, forecasts[name] = found
        is_estimated |= cost is not None
        if decision.action != "keep":
            pending.add(name)
        rows.append(
            (name, recipe.stages[name].do, *_cells(cost), _time(cost, decision, folder / name), _words(decision))
        )
    lines = _aligned(rows)
    mixtures: list[str] = []
    for name in recipe.order():
        with recipe.places_told(name):
            mixtures += describe_mixture(recipe, name, folder)
    if mixtures:
        lines += ["", *mixtures]
    if cluster is not None:
        lines += _on_gpus(recipe, folder, cluster, forecasts)
    elif is_estimated:
        lines.append(
            f"\n~ estimates for this machine: FLOPs ÷ ({measured_flops() / 1e9:.0f} GFLOP/s measured × "
            f"{ASSUMED_UTILISATION} assumed utilisation); memory: weights, gradients, optimiser state, one micro-batch"
        )
    return "\n".join(lines)


def _forecast(recipe: Recipe, name: str, folder: Path, cluster: Cluster) -> tuple[Estimate, Forecast] | None:
    """A training stage's cost on GPUs; None for other stages, and where the model's shape is not known yet."""
    stage = recipe.stages[name]
    shape = decoder_shape(recipe, name, folder) if isinstance(stage, TrainingConfiguration) else None
    if shape is None or not isinstance(stage, TrainingConfiguration):
        return None
    try:
        found = forecast(shape, stage, cluster)
    except UserError as error:
        raise UserError(f"stage '{name}': {error.message}", where=error.where, fix=error.fix) from error
    cost = Estimate(
        parameters=shape.num_parameters(),
        tokens=None if stage.steps is None else stage.steps * stage.batch_tokens,
        flops=None if stage.steps is None else stage.steps * found.step_flops,
        memory_bytes=found.layout.memory.total,
        seconds=found.seconds,
    )
    return cost, found


def _on_gpus(recipe: Recipe, folder: Path, cluster: Cluster, forecasts: Mapping[str, Forecast]) -> list[str]:
    """Each training stage in detail, then what was assumed."""
    lines = [f"\n~ estimates for {cluster.gpus} × {cluster.gpu.name}; memory: of each GPU"]
    for name in recipe.order():
        stage = recipe.stages[name]
        if not isinstance(stage, TrainingConfiguration):
            continue
        shape = decoder_shape(recipe, name, folder)
        if shape is None:
            lines += [
                "",
                f"{name}: not planned, since its model's shape is not known yet: no config.json, no vocabulary",
            ]
        else:
            lines += ["", describe(name, shape, stage, cluster, forecasts[name])]
    if forecasts:
        lines += ["", sources([found.situation for found in forecasts.values()])]
    return lines


def _decide(recipe: Recipe, name: str, folder: Path, pending: set[str]) -> Decision:
    waits = sorted(recipe.parents(name) & pending)
    if waits:
        state = "made anew if they come out different" if is_finished(folder / name) else "not made yet"
        return Decision("begin", f"after {', '.join(waits)}: {state}")
    inputs, wanted = identify(recipe, name, folder)
    return decide(folder / name, recipe.stages[name], wanted, inputs)


def _words(decision: Decision) -> str:
    return decision.reason if decision.action == "keep" else f"{decision.action}: {decision.reason}"


def _cells(cost: Estimate | None) -> tuple[str, ...]:
    if cost is None:
        return ("", "", "", "")
    return (
        _count(cost.parameters),
        "by epochs" if cost.tokens is None else _count(cost.tokens),
        "" if cost.flops is None else f"{cost.flops:.1e}",
        f"{cost.memory_bytes / 1e9:.1f} GB",
    )


def _time(cost: Estimate | None, decision: Decision, folder: Path) -> str:
    if decision.action == "keep":
        return f"took {_duration(read_artifact(folder).seconds)}"
    return "" if cost is None or cost.seconds is None else f"~ {_duration(cost.seconds)}"


def _count(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.2f}{letter}"
    return f"{value:.0f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
