"""What a stage's mixture comes to, before it runs: shares and epochs of each cell, caps, what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vernacular.lifecycle.recipe import Recipe
from vernacular.lifecycle.runner import resolve_inputs
from vernacular.lifecycle.stages.pretrain import Pretrain

if TYPE_CHECKING:
    from vernacular.tokens.measures import TextCounts


_HEADER = ("cell", "documents", "MB", "tokens", "of all", "weight", "of the training", "tokens read", "epochs")


def describe_mixture(recipe: Recipe, name: str, folder: Path) -> list[str]:
    """What each phase of a pretrain stage's mixture reads, and an account of its cells; none where there is no mixture.

    Raises:
        UserError: the mixture does not fit the tokens.
    """
    stage = recipe.stages[name]
    if not isinstance(stage, Pretrain) or not stage.phases:
        return []
    from vernacular.tokens.mixed_rows import open_cells
    from vernacular.tokens.mixture import cells_given, describe_phases, plan_mixture
    from vernacular.tokens.shard import INDEX

    folders = stage.tokens_folders(resolve_inputs(recipe, name, folder))
    if not all((tokens / INDEX).is_file() for tokens in folders.values()):
        return [f"{name}: its mixture can be planned when its tokens are there"]
    by = stage.phases[0].mixture.by
    rows = open_cells(folders, "train", by, stage.sequence_length, window=stage.shuffle_shards)
    steps = stage.num_steps(len(rows))
    phases = plan_mixture(stage.phases, rows.sizes, steps=steps, batch_size=stage.batch_rows)
    counts = _counts(folders, by)
    table = [_HEADER]
    for cell, given in cells_given(phases, rows.sizes).items():
        count = counts[cell]
        held = (f"{count.documents:,}", f"{count.bytes / 1e6:,.2f}", f"{count.tokens:,}")
        shares = (f"{given.before:.2%}", f"{given.weight:.2%}", f"{given.after:.2%}")
        table.append((cell, *held, *shares, f"{given.rows * stage.sequence_length:,}", f"{given.epochs:.2f}"))
    sentences = [f"{name}: mixture by {by}: {line}" for line in describe_phases(phases, rows.sizes)]
    return [*sentences, *_aligned(table)]


def _counts(folders: Mapping[str, Path], by: str) -> dict[str, TextCounts]:
    """Documents, bytes and tokens of each cell in the training split, as the tokens' indices have them."""
    from vernacular.tokens.measures import TextCounts
    from vernacular.tokens.mixed_rows import PARTS_OF, cell_name
    from vernacular.tokens.shards import read_index

    counts: dict[str, TextCounts] = {}
    for folder, path in folders.items():
        for cell in read_index(path)["splits"]["train"]["cells"]:
            part = {key: cell.pop(key, "") for key in PARTS_OF["cell"]}
            name = folder if by == "tokens" else cell_name({key: part[key] for key in PARTS_OF[by]})
            counts.setdefault(name, TextCounts()).include(TextCounts(**cell))
    return counts


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    padded = ((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])) for row in table)
    return ["  ".join(row) for row in padded]
