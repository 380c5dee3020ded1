"""Coordinate check of μP: activations over the width after each of a few steps, with and without it, as a picture.

python benchmarks/coordinate_check.py --out coordinate-check.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure

from vernacular.models.configuration import DecoderConfiguration
from vernacular.training.mup import Coordinate, coordinate_check
from vernacular.training.optimisation import MupConfiguration, OptimiserConfiguration

_HEAD_DIM = 16
_PARTS = ("attention 1", "feed-forward 1", "block 1", "logits")


def shape(width: int, base: int | None) -> DecoderConfiguration:
    """Granite's multipliers, grown by heads; `base` is the base width of μP, None without it."""
    return DecoderConfiguration(
        family="granite",
        hidden_size=width,
        num_layers=2,
        num_heads=width // _HEAD_DIM,
        num_key_value_heads=width // _HEAD_DIM,
        head_dim=_HEAD_DIM,
        intermediate_size=2 * width,
        vocab_size=96,
        max_positions=64,
        initializer_range=0.1,
        attention_multiplier=_HEAD_DIM**-0.5 if base is None else 1 / _HEAD_DIM,
        logits_scaling=1.0 if base is None else width / base,
    )


def check(widths: list[int], base: int | None, rate: float, steps: int) -> list[Coordinate]:
    mup = None if base is None else MupConfiguration(base_width=base)
    optimiser = OptimiserConfiguration(learning_rate=rate, mup=mup)
    return coordinate_check(lambda width: shape(width, base), widths, optimiser, steps=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("coordinate-check.png"))
    arguments = parser.parse_args()
    figure = Figure(figsize=(13, 6), dpi=160, layout="constrained")
    grid = figure.subplots(2, len(_PARTS), sharex=True, sharey="col")
    for row, (name, base) in zip(grid, (("μP", arguments.widths[0]), ("standard", None)), strict=True):
        found = check(arguments.widths, base, arguments.rate, arguments.steps)
        for axes, part in zip(row, _PARTS, strict=True):
            for step in range(arguments.steps + 1):
                points = [(one.width, one.size) for one in found if one.part == part and one.step == step]
                axes.plot(*zip(*points, strict=True), marker="o", label=f"step {step}")
            axes.set(title=f"{name}: {part}", xscale="log", yscale="log")
            axes.set_xticks(arguments.widths, [str(width) for width in arguments.widths], minor=False)
            axes.xaxis.minorticks_off()
            axes.grid(color="#e3e3e3")
        row[0].set_ylabel("mean absolute value")
    for axes in grid[-1]:
        axes.set_xlabel("hidden_size")
    grid[0][0].legend(fontsize=8)
    figure.savefig(arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
