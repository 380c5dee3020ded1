"""Curates small files as if they were many: a program, so that tests can kill it and give it several workers.

python curating.py SOURCE OUT [ENGINE as JSON]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vernacular.corpus import assessment, reading
from vernacular.corpus.configuration import CurateConfiguration
from vernacular.corpus.curation import curate
from vernacular.foundation.configuration import validate

SETTINGS = {"languages": ["pl", "hi", "ta"], "exact_duplicates": {"unit": "line"}}


def main() -> None:
    """Curate; tasks are of one file, runs of a few documents."""
    source, out, *engine = sys.argv[1:]
    assessment._FILES_PER_TASK = 1
    reading._ROWS_PER_BATCH = 20
    reading._BYTES_PER_RUN = 4000
    given = {"sources": [{"name": "s", "path": source}], **SETTINGS, "engine": json.loads(engine[0]) if engine else {}}
    curate(validate(CurateConfiguration, given), Path(out))


if __name__ == "__main__":
    main()
