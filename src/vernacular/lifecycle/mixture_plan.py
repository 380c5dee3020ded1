"""What a stage's mixture comes to, before it runs: shares and epochs of each cell, caps, what is left out."""

from __future__ import annotations

from pathlib import Path

from vernacular.lifecycle.recipe import Recipe
from vernacular.lifecycle.runner import resolve_inputs
from vernacular.lifecycle.stages.pretrain import Pretrain


def describe_mixture(recipe: Recipe, name: str, folder: Path) -> list[str]:
    """A line for each phase of a pretrain stage's mixture; none where there is no mixture.

    Raises:
        UserError: the mixture does not fit the tokens.
    """
    stage = recipe.stages[name]
    if not isinstance(stage, Pretrain) or not stage.phases:
        return []
    from vernacular.tokens.mixed_rows import open_cells
    from vernacular.tokens.mixture import describe_phases, plan_mixture
    from vernacular.tokens.shards import INDEX

    folders = stage.tokens_folders(resolve_inputs(recipe, name, folder))
    if not all((tokens / INDEX).is_file() for tokens in folders.values()):
        return [f"{name}: its mixture can be planned when its tokens are there"]
    rows = open_cells(folders, "train", stage.phases[0].mixture.by, stage.sequence_length, window=stage.shuffle_shards)
    steps = stage.num_steps(len(rows))
    phases = plan_mixture(stage.phases, rows.sizes, steps=steps, batch_size=stage.batch_rows)
    return [f"{name}: mixture by {stage.phases[0].mixture.by}: {line}" for line in describe_phases(phases, rows.sizes)]
