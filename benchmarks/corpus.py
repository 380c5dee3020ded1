"""The corpus room's jobs beside their peers, on the same real documents, per core-second. A row per job.

    python benchmarks/corpus.py --rows deduplication --peer PYTHON

The peer's environment for the row `deduplication`: datatrove 0.10.1, orjson, regex, nltk, tokenizers, spacy,
indic-nlp-library and xxhash below 4.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

from claim import Claim, print_claim
from corpus_rows import deduplication

Row = Callable[[str, str], Iterator[Claim]]
"""Measures a job, given our interpreter and the peer's."""

ROWS: dict[str, Row] = {deduplication.NAME: deduplication.measure}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="jobs to measure")
    parser.add_argument("--peer", metavar="PYTHON", required=True, help="an interpreter whose environment has the peer")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    arguments = parser.parse_args()
    for claim in (claim for name in arguments.rows for claim in ROWS[name](sys.executable, arguments.peer)):
        print_claim(claim, as_json=arguments.json)


if __name__ == "__main__":
    main()
