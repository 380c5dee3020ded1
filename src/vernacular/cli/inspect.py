"""Show what a folder is: where an artifact comes from, what weights are made of.

An artifact's stage, its results, and everything it was made of; a parent that was made anew since is marked. Of
weights the family, the parameters, the memory they take in each format and for each token, tokenizer and template.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular inspect runs/demo/card
  vernacular inspect runs/demo/instruct                  its ancestry, and the weights in it
  vernacular inspect weights/krutrim-2                   weights that were imported
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a stage's folder or a weights folder, e.g. runs/demo/instruct"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the tree, or the facts about the weights, or both."""
    from vernacular.foundation.artifact import is_finished

    has_weights = (arguments.folder / "config.json").is_file()
    if is_finished(arguments.folder) or not has_weights:
        from vernacular.lifecycle.ancestry import draw

        print(draw(arguments.folder))
    if has_weights:
        from vernacular.models.inspection import describe

        print(describe(arguments.folder))
