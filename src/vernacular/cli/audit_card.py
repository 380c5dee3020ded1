"""Find what does not hold together on model cards: bold, averages, claims, licences, labels, sizes.

Reads any Markdown model card, its tables in whatever shape, and checks it against itself; several cards also against
each other. The files are read as data: nothing on them is run or fetched. Exit code 1 means that something was found.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular audit-card README.md
  vernacular audit-card model-7b.md model-12b.md         also one model's scores on both
  vernacular audit-card README.md --json                 the findings for a program
"""

FOUND = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The cards."""
    parser.add_argument("cards", type=Path, nargs="+", metavar="FILE", help="a model card in Markdown")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 if there are any."""
    import json

    from vernacular.evaluation.audit.audit import as_object, audit, report

    found = audit(arguments.cards)
    print(json.dumps(as_object(found), ensure_ascii=False, indent=2) if arguments.json else report(found))
    return 0 if found.passed else FOUND
