"""What a deduplication worker and the benchmark say to each other: a line of JSON each way. Standard library only.

Told `{"documents": FOLDER of JSON Lines, "folder": EMPTY, "seed": NUMBER}` a worker removes near-duplicates, leaves
what stays below the empty folder, and answers with the processor seconds it took and the ids that stay.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

Run = Callable[[Path, Path, int], Callable[[], list[str]]]
"""Removes near-duplicates of the documents in a folder into another, with the permutations of a seed; returns what then
reads the ids that stay."""


def serve(run: Run) -> None:
    """Answer requests from standard input until it ends."""
    # What libraries print must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        began = time.process_time()
        ids_that_stay = run(Path(request["documents"]), Path(request["folder"]), request["seed"])
        seconds = time.process_time() - began
        print(json.dumps({"core_seconds": seconds, "kept": ids_that_stay()}), file=answers, flush=True)
