"""Show what `run` would do, why, and what it would cost.

For each stage: whether it is up to date, and if not why; parameters, tokens, FLOPs, memory and time.
"""

from __future__ import annotations

import argparse

from vernacular.cli.run import add_recipe_arguments

EXAMPLES = """\
  vernacular plan recipes/demo.yaml
  vernacular plan recipes/demo.yaml stages.base.model.num_layers=8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recipe, overrides, places."""
    add_recipe_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print the plan."""
    from vernacular.lifecycle.plan import plan

    print(plan(arguments.recipe, arguments.overrides, out=arguments.out))
