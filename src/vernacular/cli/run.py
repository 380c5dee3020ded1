"""Run a recipe: do what is missing or changed, and only that.

Each stage's artifact lies in OUT/RECIPE/STAGE. A run that was stopped, in whatever way, goes on where it was when the
same command is given again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular run recipes/demo.yaml
  vernacular run recipes/demo.yaml stages.base.steps=200 --out /tmp/runs
  vernacular run recipes/own-text.yaml corpus=my-texts languages=[hi,en]
  vernacular run recipes/demo.yaml --until tokens
"""
CONTINUES = "run the same command again to continue"


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `run` and `plan` share."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="the recipe's YAML file")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="a setting (stages.base.steps=200) or a recipe's parameter"
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="FOLDER", help="default: runs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recipe, overrides, places."""
    add_recipe_arguments(parser)
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")


def run(arguments: argparse.Namespace) -> None:
    """Bring the recipe's artifacts up to date."""
    from vernacular.lifecycle.runner import run as run_recipe

    run_recipe(arguments.recipe, arguments.overrides, out=arguments.out, until=arguments.until)
