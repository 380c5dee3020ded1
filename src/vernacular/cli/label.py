"""Grade documents by hand, on a page in the browser.

Shows one document of DOCUMENTS after another; 1, 2 and 3 give HIGH, MEDIUM and LOW, s skips, u takes the last verdict
back. Every verdict is in the file at once: stop whenever you like, and the same command goes on. Now and then a
document comes back without saying so, and a second person gets what the first has graded: the page shows how far the
verdicts agree. With --model, a classifier trained before chooses half of the documents: those it is least sure of.
Then: `labels: FILE` below `do: train-quality`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular label runs/polish/corpus -o labels.sqlite
  vernacular label runs/polish/corpus -o labels.sqlite --number 500 --model runs/polish/quality
"""
CONTINUES = "every verdict is in the file; run the same command again to go on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Documents, labels, how many, where to listen."""
    parser.add_argument(
        "documents", type=Path, metavar="DOCUMENTS", help="a curate stage's folder, e.g. runs/demo/corpus"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the labels, an SQLite file")
    parser.add_argument("--number", type=int, default=300, metavar="N", help="documents to offer (default: 300)")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a train-quality stage's folder, for its doubts")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=8010, help="0 takes any that is free (default: 8010)")


def run(arguments: argparse.Namespace) -> None:
    """Serve the page until told to stop."""
    from vernacular.corpus.quality.labelling.server import label
    from vernacular.foundation.errors import UserError

    if arguments.number < 1:
        raise UserError(f"--number is {arguments.number}", where="vernacular label", fix="offer one document at least")
    label(
        arguments.documents,
        arguments.out,
        number=arguments.number,
        model=arguments.model,
        host=arguments.host,
        port=arguments.port,
    )
