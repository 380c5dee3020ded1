"""Fit the rules' thresholds to documents known to be good, and show the histograms.

Of each language in the reference, each rule's bound is set where only a percentile of its documents lie beyond it. OUT
then holds thresholds.yaml, which a recipe takes with `filters: {fitted: OUT/thresholds.yaml}`, and histograms.html.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular fit-thresholds data/good.jsonl -o fitted
  vernacular fit-thresholds runs/demo/corpus/documents/train --language-field language -o fitted
  vernacular fit-thresholds books --language pl --families gopher_quality --percentile 2 -o fitted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The reference, what to fit, and where to."""
    parser.add_argument("reference", metavar="REFERENCE", help="file, folder, pattern or URL of good documents")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--families",
        nargs="+",
        metavar="FAMILY",
        help="whose rules (default: all but granite, whose rules are others')",
    )
    parser.add_argument("--percentile", type=float, default=1.0, help="of documents beyond a bound (default 1)")
    parser.add_argument("--margin", type=float, default=0.1, help="then loosen it by this share (default 0.1)")
    parser.add_argument("--least", type=int, default=50, help="documents a language must have (default 50)")
    parser.add_argument("--text", default="text", metavar="FIELD", help="field or column of the text (default text)")
    parser.add_argument("--language", help="language that all documents are in (default: identified)")
    parser.add_argument("--language-field", metavar="FIELD", help="field or column naming each document's language")


def run(arguments: argparse.Namespace) -> None:
    """Fit, write, and print what the published bounds would lose."""
    from vernacular.corpus.configuration import Source
    from vernacular.corpus.families import family_names
    from vernacular.corpus.fitting import fit_thresholds
    from vernacular.foundation.configuration import validate
    from vernacular.foundation.errors import UserError, unknown_name

    families = arguments.families or [name for name in family_names() if name != "granite"]
    for name in families:
        if name not in family_names():
            raise unknown_name("family of rules", name, family_names(), where="--families")
    if not 0 <= arguments.percentile < 50:
        raise UserError("--percentile must be at least 0 and below 50", where=f"--percentile {arguments.percentile:g}")
    if not 0 <= arguments.margin < 1:
        raise UserError("--margin must be at least 0 and below 1", where=f"--margin {arguments.margin:g}")
    given = {
        "path": arguments.reference,
        "text": arguments.text,
        "language": arguments.language,
        "language_field": arguments.language_field,
    }
    source = validate(Source, {key: value for key, value in given.items() if value is not None})
    fitted = fit_thresholds(source, families, arguments.percentile, arguments.margin, arguments.least, arguments.out)
    lost = sorted((each for each in fitted if each.lost > 0.02), key=lambda each: -each.lost)
    print(f"{len(fitted)} bounds for {len({each.language for each in fitted})} languages: {arguments.out}")
    if lost:
        print("published bounds that would remove most of the reference:")
        for each in lost[:10]:
            bounds = f"published {each.published:g}, fitted {each.bound:g}"
            print(f"  {each.language:<4} {each.rule.key:<40} {each.lost:6.1%}  {bounds}")
    print(f"look at {arguments.out / 'histograms.html'}")
