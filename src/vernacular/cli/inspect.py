"""Show what a folder is: where an artifact comes from, what weights are made of.

An artifact's stage, its results, and everything it was made of; a parent that was made anew since is marked. Of
weights the family, the parameters, the memory they take in each format and for each token, tokenizer and template.
Where tensors, tokenizer or template do not fit config.json, the weights are called broken, and the exit code is 2.
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


def run(arguments: argparse.Namespace) -> int:
    """Print the tree, or the facts about the weights, or both; 2 where the weights are broken."""
    from vernacular.foundation.artifact import is_finished
    from vernacular.foundation.errors import UserError

    if not arguments.folder.exists():
        raise UserError("the folder does not exist", where=arguments.folder, fix="check the path")
    if not arguments.folder.is_dir():
        raise UserError("this is a file, not a folder", where=arguments.folder, fix="name the folder it lies in")
    has_weights = (arguments.folder / "config.json").is_file()
    if is_finished(arguments.folder) or not has_weights:
        from vernacular.lifecycle.ancestry import draw

        print(draw(arguments.folder))
    if not has_weights:
        return 0
    from vernacular.models.inspection import describe, faults

    print(describe(arguments.folder))
    broken = faults(arguments.folder)
    for fault in broken:
        print(f"broken: {fault}")
    return UserError.exit_code if broken else 0
