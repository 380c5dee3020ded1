"""Compare two evaluations item by item: how far apart, how sure, and why.

Paired differences with bootstrap intervals, McNemar's exact test, the items on which the two differ, and everything in
which the runs were not the same: weights, template, shots, versions, precision, data. No model is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular compare scores/base scores/instruct
  vernacular compare scores/float32 scores/bfloat16 --items 20
  vernacular compare A B --json                          everything, for a program
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two evaluations."""
    parser.add_argument("first", type=Path, metavar="A", help="an evaluation's folder")
    parser.add_argument("second", type=Path, metavar="B", help="another's")
    parser.add_argument("--items", type=int, default=5, metavar="N", help="most differing items to show (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Print the comparison."""
    import json

    from vernacular.evaluation.comparison import as_object, compare, report

    found = compare(arguments.first, arguments.second)
    if arguments.json:
        print(json.dumps(as_object(found), ensure_ascii=False, indent=2))
    else:
        print(report(found, most_items=arguments.items))
