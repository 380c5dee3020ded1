"""Draw where an artifact comes from: its stage, its results, and everything it was made of.

A parent that was made anew since is marked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular inspect runs/demo/card
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The artifact."""
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="a stage's folder, e.g. runs/demo/instruct")


def run(arguments: argparse.Namespace) -> None:
    """Print the tree."""
    from vernacular.lifecycle.ancestry import draw

    print(draw(arguments.artifact))
