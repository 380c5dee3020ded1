"""Print the JSON schema of recipes, for editors.

An editor that knows the schema completes a recipe's keys and underlines wrong ones while you write.
"""

from __future__ import annotations

import argparse
import json

EXAMPLES = """\
  vernacular schema > recipe.schema.json                 then, as the first line of a recipe:
                                                         # yaml-language-server: $schema=recipe.schema.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(arguments: argparse.Namespace) -> None:
    """Print the schema to standard output."""
    from vernacular.lifecycle.schema import recipe_schema

    print(json.dumps(recipe_schema(), ensure_ascii=False, indent=2))
