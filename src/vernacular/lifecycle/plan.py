"""The plan: what a run would do, why, and what it would cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vernacular.foundation.artifact import is_finished, read_artifact
from vernacular.lifecycle.decision import Decision, decide
from vernacular.lifecycle.estimate import ASSUMED_UTILISATION, Estimate, estimate, measured_flops
from vernacular.lifecycle.recipe import Recipe, load_recipe
from vernacular.lifecycle.runner import identify

_HEADER = ("stage", "do", "parameters", "tokens", "FLOPs", "memory", "time", "what and why")


def plan(recipe_path: Path, overrides: Sequence[str] = (), *, out: Path = Path("runs")) -> str:
    """A table of the recipe's stages with decisions and estimates; nothing is written."""
    recipe = load_recipe(recipe_path, overrides)
    folder = out / recipe.name
    rows: list[tuple[str, ...]] = [_HEADER]
    pending: set[str] = set()
    estimated = False
    for name in recipe.order():
        decision = _decide(recipe, name, folder, pending)
        cost = estimate(recipe, name, folder)
        estimated |= cost is not None
        if decision.action != "keep":
            pending.add(name)
        rows.append(
            (name, recipe.stages[name].do, *_cells(cost), _time(cost, decision, folder / name), _words(decision))
        )
    lines = _aligned(rows)
    if estimated:
        lines.append(
            f"\n~ estimates for this machine: FLOPs ÷ ({measured_flops() / 1e9:.0f} GFLOP/s measured × "
            f"{ASSUMED_UTILISATION} assumed utilisation); memory: weights, gradients, AdamW, one micro-batch"
        )
    return "\n".join(lines)


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
