"""The mixture: how many rows of each cell (a language, a source, a token stage) each phase of a training stage reads.

With an exponent a, a cell of n rows has the share n^a / Σ n^a: a = 1 is in proportion, a below 1 gives the small
languages more (Conneau et al., XLM-R, arXiv 1911.02116; Xue et al., mT5, arXiv 2010.11934; both 0.3). Epochs are capped
since tokens read more than about four times teach little more (Muennighoff et al., arXiv 2305.16264).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vernacular.foundation.errors import UserError, unknown_name
from vernacular.tokens.configuration import MixtureConfiguration, PhaseConfiguration


@dataclass(frozen=True)
class Phase:
    """A part of a training stage.

    Attributes:
        first: the first row it reads, counted from the stage's first.
        rows: how many it reads of each cell; cells in the order of the mixture, those left out with 0.
        wanted: each cell's share before epochs were capped.
        capped: cells that give less than their share, since they have no more.
    """

    first: int
    rows: Mapping[str, int]
    wanted: Mapping[str, float]
    capped: tuple[str, ...]

    @property
    def length(self) -> int:
        """Rows of the phase."""
        return sum(self.rows.values())


def plan_mixture(
    phases: Sequence[PhaseConfiguration], sizes: Mapping[str, int], *, steps: int, batch_size: int
) -> tuple[Phase, ...]:
    """Rows of each cell in each phase.

    Args:
        phases: the mixtures, and until which fraction of the steps each holds.
        sizes: rows of each cell in an epoch, all above 0.
        steps: of the training stage.
        batch_size: rows in a global batch.

    Raises:
        UserError: a share names no cell, a phase has no step, or all cells together have too few rows for the caps.
    """
    planned: list[Phase] = []
    used = dict.fromkeys(sizes, 0)
    first_step = 0
    for number, phase in enumerate(phases):
        last_step = round(phase.until * steps)
        if last_step <= first_step:
            raise UserError(
                f"phase {number + 1} of the curriculum has none of the {steps} steps",
                where=f"curriculum.{number}.until",
                fix="raise it, or give the stage more steps",
            )
        rows = (last_step - first_step) * batch_size
        shares = cell_shares(phase.mixture, sizes)
        room = {cell: _room(phase.mixture, size) - used[cell] for cell, size in sizes.items()}
        counts, capped = _share_out(rows, shares, room, phase.mixture)
        planned.append(Phase(first_step * batch_size, counts, shares, capped))
        used = {cell: used[cell] + counts[cell] for cell in sizes}
        first_step = last_step
    return tuple(planned)


def cell_shares(mixture: MixtureConfiguration, sizes: Mapping[str, int]) -> dict[str, float]:
    """The share that each cell is to have, 0 where it is left out; they sum to 1."""
    if mixture.shares is None:
        weights = {cell: float(size) ** mixture.exponent for cell, size in sizes.items()}
    else:
        for cell in mixture.shares:
            if cell not in sizes:
                raise unknown_name(mixture.by, cell, sizes, where=f"mixture.shares.{cell}")
        weights = {cell: mixture.shares.get(cell, 0.0) for cell in sizes}
    total = math.fsum(weights.values())
    return {cell: weight / total for cell, weight in weights.items()}


def describe_phases(phases: Sequence[Phase], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """A sentence for each phase: the share and the epochs of each cell, which are capped, which are left out."""
    sentences = []
    for number, phase in enumerate(phases, start=1):
        given = [
            f"{cell} {rows / phase.length:.2%} ({rows / sizes[cell]:.2f} epochs)"
            for cell, rows in sorted(phase.rows.items(), key=lambda item: -item[1])
            if rows
        ]
        sentence = ", ".join(given)
        if phase.capped:
            capped = ", ".join(f"{cell} (for {phase.wanted[cell]:.2%})" for cell in phase.capped)
            sentence += f"; capped by max_epochs, the rest given to the others: {capped}"
        if out := [cell for cell, rows in phase.rows.items() if not rows and cell not in phase.capped]:
            sentence += f"; left out: {', '.join(out)}"
        sentences.append(f"phase {number} of {len(phases)}: {sentence}" if len(phases) > 1 else sentence)
    return tuple(sentences)


@dataclass(frozen=True)
class CellGiven:
    """What a cell gives to a training stage, all phases together.

    Attributes:
        before: its share of the rows there are.
        weight: the share it was to have of what is read.
        after: the share it has, after epochs were capped.
        rows: that are read of it.
        epochs: how often all of it is read.
    """

    before: float
    weight: float
    after: float
    rows: int
    epochs: float


def cells_given(phases: Sequence[Phase], sizes: Mapping[str, int]) -> dict[str, CellGiven]:
    """What each cell gives."""
    total, read = sum(sizes.values()), sum(phase.length for phase in phases)
    given = {}
    for cell, size in sizes.items():
        rows = sum(phase.rows[cell] for phase in phases)
        weight = math.fsum(phase.wanted[cell] * phase.length for phase in phases) / read
        given[cell] = CellGiven(size / total, weight, rows / read, rows, rows / size)
    return given


def _room(mixture: MixtureConfiguration, size: int) -> float:
    """Rows that a cell may give in all."""
    return math.inf if mixture.max_epochs is None else math.floor(mixture.max_epochs * size)


def _share_out(
    rows: int, shares: Mapping[str, float], room: Mapping[str, float], mixture: MixtureConfiguration
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Rows of each cell, and which cells are capped: what those cannot give is given by the others, again and again."""
    counts = dict.fromkeys(shares, 0)
    open_cells = {cell: share for cell, share in shares.items() if share > 0}
    capped: list[str] = []
    left = rows
    while True:
        total = math.fsum(open_cells.values())
        full = [cell for cell, share in open_cells.items() if left * share / total > room[cell]]
        if not full:
            break
        for cell in full:
            counts[cell] = max(0, int(room[cell]))
            left -= counts[cell]
            del open_cells[cell]
        capped += full
        if not open_cells and left > 0:
            raise UserError(
                f"{rows} rows are to be read, and with max_epochs {mixture.max_epochs} the cells give {rows - left}",
                where="mixture.max_epochs",
                fix="raise max_epochs, train for fewer steps, or add text",
            )
        if not open_cells:
            break
    counts |= _rounded(left, open_cells)
    return counts, tuple(cell for cell in shares if cell in capped)


def _rounded(rows: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole rows in proportion to shares, by the largest remainders."""
    total = math.fsum(shares.values())
    exact = {cell: rows * share / total for cell, share in shares.items()}
    counts = {cell: math.floor(value) for cell, value in exact.items()}
    by_remainder = sorted(exact, key=lambda cell: counts[cell] - exact[cell])
    for cell in by_remainder[: rows - sum(counts.values())]:
        counts[cell] += 1
    return counts
