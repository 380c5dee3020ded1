"""Put several evaluations side by side on one page of HTML, with a table and a plot.

The page needs nothing else: no script, no network. With --suite, the card's own headline and its published scores stand
beside.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular leaderboard scores/base scores/instruct -o page.html
  vernacular leaderboard scores/* --suite krutrim-1 -o page.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The evaluations, and the page."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="an evaluation's folder")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the page, e.g. page.html")
    parser.add_argument("--suite", metavar="NAME", help="a card's suite, e.g. granite-3.0")


def run(arguments: argparse.Namespace) -> None:
    """Write the page."""
    from vernacular.evaluation.leaderboard import leaderboard
    from vernacular.evaluation.suites.suite import read_suite
    from vernacular.foundation.files import write_text

    suite = read_suite(arguments.suite) if arguments.suite else None
    write_text(arguments.out, leaderboard(arguments.runs, suite))
    print(arguments.out)
