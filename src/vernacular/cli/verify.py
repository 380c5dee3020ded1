"""Recompute every number of a release's model card from its records.

Names each line of README.md that the records do not bear out, and each file that was altered. Exit code 0 means that
the card is true to its records. No model is needed, and nothing is downloaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular verify runs/demo/card
  vernacular verify runs/demo/card --json                the findings for a program
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The release."""
    parser.add_argument("release", type=Path, metavar="RELEASE", help="a release's folder, e.g. runs/demo/card")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 2 if the card is not true."""
    import json

    from vernacular.foundation.errors import UserError
    from vernacular.publishing.verify import as_object, report, verify

    found = verify(arguments.release)
    print(json.dumps(as_object(found), ensure_ascii=False, indent=2) if arguments.json else report(found))
    return 0 if found.passed else UserError.exit_code
