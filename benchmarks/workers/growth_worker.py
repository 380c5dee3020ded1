"""Curates a file in a process of its own: `growth_worker.py FILE OUT MEMORY`; prints what it took as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from protocol import peak_bytes

from vernacular.corpus.configuration import CurateConfiguration
from vernacular.corpus.curation import curate
from vernacular.foundation.configuration import validate


def main() -> None:
    """Curate, and say how many documents there were, what each took, and the most memory held."""
    path, out, memory = sys.argv[1:]
    given = {"sources": [{"path": path}], "engine": {"workers": 1, "memory": memory}}
    # What is made once in a process, whatever the input: tables of characters, models.
    curate(validate(CurateConfiguration, {**given, "sources": [{"synthetic": {"documents": 60}}]}), Path(out) / "first")
    began = time.process_time()
    summary = curate(validate(CurateConfiguration, given), Path(out) / "all")
    microseconds = (time.process_time() - began) * 1e6 / summary["documents_in"]
    figures = {"documents": summary["documents_in"], "kept": summary["documents"], "removed": summary["removed"]}
    print(json.dumps({**figures, "microseconds": round(microseconds), "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
