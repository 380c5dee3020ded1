"""Compute an evaluation's scores again from its records, without a model; also by other metrics.

Says where scores.json is not what the records give; exit code 2 then.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular rescore scores/base
  vernacular rescore scores/base --metric acc_norm --metric f1_macro
  vernacular rescore scores/base --suite krutrim-1       and the card's own average
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The evaluation, and what else to compute."""
    parser.add_argument("run", type=Path, metavar="RUN", help="an evaluation's folder")
    parser.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="one more metric; may be repeated"
    )
    parser.add_argument("--suite", metavar="NAME", help="a card's suite, for its headline")


def run(arguments: argparse.Namespace) -> int:
    """Print the scores; 2 if scores.json says otherwise."""
    from vernacular.evaluation.records import RECORDS, read_run
    from vernacular.evaluation.scores import differences, read_scores, rescore, table, warnings
    from vernacular.evaluation.suites.report import headline_table, suite_report
    from vernacular.evaluation.suites.suite import read_suite
    from vernacular.foundation.errors import UserError

    suite = read_suite(arguments.suite) if arguments.suite else None
    scores = rescore(arguments.run, {name: {} for name in arguments.metric})
    tasks = read_run(arguments.run / RECORDS)["tasks"]
    print(table(scores))
    print("".join(f"\nWarning: {warning}" for warning in warnings(scores, tasks)))
    if suite is not None:
        print(headline_table(suite_report(suite, arguments.run)))
    wrong = differences(read_scores(arguments.run)["scores"], rescore(arguments.run))
    for place, message in wrong:
        print(f"scores.json{place}: {message}")
    return UserError.exit_code if wrong else 0
