"""Run a recipe: do what is missing or changed, and only that.

Each stage's artifact lies in OUT/RECIPE/STAGE. A run that was stopped, in whatever way, goes on where it was when the
same command is given again. With --processes, or under torchrun, all processes train together, as each stage says under
`parallel`; the first does everything else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vernacular.foundation.errors import UserError

EXAMPLES = """\
  vernacular run recipes/demo.yaml
  vernacular run recipes/demo.yaml stages.base.steps=200 --out /tmp/runs
  vernacular run recipes/own-text.yaml corpus=my-texts stages.corpus.languages=[hi,en]
  vernacular run recipes/demo.yaml --until tokens
  vernacular run recipes/demo.yaml --processes 4 --restarts 3
  torchrun --standalone --nproc-per-node=8 -m vernacular.cli.main run recipes/demo.yaml
"""
CONTINUES = "run the same command again to continue"


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `run` and `plan` share."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="the recipe's YAML file")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="a setting (stages.base.steps=200) or a recipe's parameter",
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="FOLDER", help="default: runs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recipe, overrides, places."""
    add_recipe_arguments(parser)
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="processes on this machine that train together"
    )
    parser.add_argument(
        "--restarts", type=int, default=0, metavar="N", help="how often they are started again after one was lost"
    )


def run(arguments: argparse.Namespace) -> int:
    """Bring the recipe's artifacts up to date."""
    for flag, number, least in (("--processes", arguments.processes, 1), ("--restarts", arguments.restarts, 0)):
        if number < least:
            raise UserError(f"{number} is too few", where=flag, fix=f"give {least} or more")
    if arguments.processes > 1:
        from vernacular.parallel.launch import launch

        return launch(_words(arguments), arguments.processes, restarts=arguments.restarts)
    if arguments.restarts:
        raise UserError("--restarts belongs to --processes", where="--restarts", fix="set --processes, or leave it out")
    from vernacular.lifecycle.runner import run as run_recipe

    run_recipe(arguments.recipe, arguments.overrides, out=arguments.out, until=arguments.until)
    return 0


def _words(arguments: argparse.Namespace) -> list[str]:
    """The command line of one of the processes."""
    words = ["run", str(arguments.recipe), *arguments.overrides, "--out", str(arguments.out)]
    return words if arguments.until is None else [*words, "--until", arguments.until]
