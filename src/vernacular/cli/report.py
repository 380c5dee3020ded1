"""Draw the report page of a curated corpus, for instance without its texts, to show it to others.

The stage itself has written DOCUMENTS/report.html: open that in a browser. This verb draws the page anew, elsewhere.
With --without-samples it holds figures, tables and plots alone, and none of the corpus's text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular report runs/polish/corpus -o report.html
  vernacular report runs/polish/corpus -o public/corpus.html --without-samples --title "Polish, spring"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The corpus, the page, what is on it."""
    parser.add_argument(
        "documents", type=Path, metavar="DOCUMENTS", help="a curate stage's folder, e.g. runs/demo/corpus"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the page to write")
    parser.add_argument("--without-samples", action="store_true", help="figures, tables and plots only")
    parser.add_argument("--title", help="of the page")


def run(arguments: argparse.Namespace) -> None:
    """Draw the page and say where it is."""
    from vernacular.corpus.page.report_page import TITLE, write_report_page
    from vernacular.foundation.artifact import check_sizes, is_finished, read_artifact
    from vernacular.foundation.errors import UserError

    folder, out = arguments.documents.resolve(), arguments.out.resolve()
    if is_finished(folder):
        check_sizes(folder, read_artifact(folder))
        if out.is_relative_to(folder):
            raise UserError(
                "the page would alter the artifact, whose files have checksums",
                where=arguments.out,
                fix=f"write elsewhere; {folder / 'report.html'} is the page with samples",
            )
    write_report_page(folder, arguments.out, samples=not arguments.without_samples, title=arguments.title or TITLE)
    print(arguments.out)
