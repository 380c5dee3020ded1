"""What a worker of corpus_quality.py and the benchmark say to each other: a line of JSON each way.

Told `{"texts": [...], "languages": [...]}` it answers with the processor seconds that measuring and grading took, and
the features that ours and the peer are compared by. Standard library only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence

Measured = dict[str, list[float]]
COMPARED = ("num_characters", "letter_ratio", "digit_ratio", "punctuation_ratio", "num_lines", "mean_line_length")


def serve(grade: Callable[[Sequence[str], Sequence[str]], Measured]) -> None:
    """Answer requests from standard input until it ends; `grade` returns the compared features by name."""
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        begun = time.process_time()
        measured = grade(request["texts"], request["languages"])
        seconds = time.process_time() - begun
        print(json.dumps({"processor_seconds": seconds, "measured": measured}), file=answers, flush=True)
