"""Show what `run` would do, why, and what it would cost.

For each stage: whether it is up to date, and if not why; parameters, tokens, FLOPs, memory and time on this machine.
With --gpus and --gpu, for that many GPUs instead: a layout for each training stage, memory by part, step time, days,
energy, each with its formula, and what was assumed.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vernacular.cli.run import add_recipe_arguments

if TYPE_CHECKING:
    from vernacular.lifecycle.forecast import Cluster

EXAMPLES = """\
  vernacular plan recipes/demo.yaml
  vernacular plan recipes/demo.yaml stages.base.model.num_layers=8
  vernacular plan recipes/granite-3.0-1b-a400m.yaml --gpus 128 --gpu h100 corpus=FOLDER …
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recipe, overrides, places, GPUs."""
    add_recipe_arguments(parser)
    parser.add_argument("--gpus", type=int, metavar="N", help="how many GPUs to plan for; with --gpu")
    parser.add_argument("--gpu", metavar="NAME", help="which: a100-40, a100-80, b200, gh200, h100 or h200")
    parser.add_argument("--pue", type=float, metavar="X", help="energy of the building for each unit of the GPUs'")
    parser.add_argument("--kg-co2-per-kwh", type=float, metavar="X", help="carbon dioxide of the electricity")


def run(arguments: argparse.Namespace) -> None:
    """Print the plan."""
    from vernacular.lifecycle.plan import plan

    print(plan(arguments.recipe, arguments.overrides, out=arguments.out, cluster=_cluster(arguments)))


def _cluster(arguments: argparse.Namespace) -> Cluster | None:
    """The GPUs asked for; None for this machine."""
    from vernacular.foundation.errors import UserError
    from vernacular.lifecycle.forecast import open_cluster

    if arguments.gpus is None and arguments.gpu is None:
        if arguments.pue is not None or arguments.kg_co2_per_kwh is not None:
            raise UserError(
                "--pue and --kg-co2-per-kwh belong to a plan for GPUs", where="--pue", fix="add --gpus and --gpu"
            )
        return None
    if arguments.gpus is None or arguments.gpu is None:
        raise UserError(
            "--gpus and --gpu belong together",
            where="--gpus, --gpu",
            fix="write for example --gpus 256 --gpu gh200",
        )
    return open_cluster(arguments.gpu, arguments.gpus, pue=arguments.pue, kg_co2_per_kwh=arguments.kg_co2_per_kwh)
