"""Where things lie in a release."""

from __future__ import annotations

README = "README.md"
NUMBERS = "numbers.json"
PLOTS = "plots"
CONFIG = "config.json"

RECORDS = "records"
CARD = f"{RECORDS}/card.json"
FILES = f"{RECORDS}/files.json"
EVALUATION = f"{RECORDS}/evaluation"
STAGES = f"{RECORDS}/stages"
SCORES = "scores.json"


def stage_file(stage: str) -> str:
    """A stage's record."""
    return f"{STAGES}/{stage}.json"


def metrics_file(stage: str) -> str:
    """A training stage's metrics."""
    return f"{STAGES}/{stage}.metrics.jsonl"


def report_file(stage: str) -> str:
    """A curate stage's account of every document."""
    return f"{STAGES}/{stage}.report.json"
