"""datatrove's four families of filters on every document of a file: `datatrove_filters_worker.py`.

Each request names a JSON Lines file with `text`; the answer has each family's verdicts and the processor seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)


def build(language: str, stop_words: list[str]) -> dict[str, Any]:
    """The filters by the names that our families have."""
    return {
        "gopher_repetition": GopherRepetitionFilter(language=language),
        "gopher_quality": GopherQualityFilter(language=language, stop_words=stop_words),
        "c4": C4QualityFilter(language=language),
        "fineweb": FineWebQualityFilter(language=language),
    }


def verdict(family: Any, text: str) -> str:
    """The reason why a document goes, or nothing; "!" where the filter fails (its sentence splitter on some Hindi)."""
    try:
        answer = family.filter(Document(text=text, id="0"))
    except ValueError:
        return "!"
    return "" if answer is True else answer[1] if isinstance(answer, tuple) else "removed"


def main() -> None:
    built: dict[str, dict[str, Any]] = {}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        with open(request["documents"], encoding="utf-8") as file:
            texts = [json.loads(row)["text"] for row in file]
        filters = built.setdefault(request["language"], build(request["language"], request["stop_words"]))
        for each in filters.values():
            each.filter(Document(text="Loads what it needs. Once.", id="0"))
        started = time.process_time()
        verdicts = {name: [verdict(each, text) for text in texts] for name, each in filters.items()}
        print(json.dumps({"seconds": time.process_time() - started, "verdicts": verdicts}), flush=True)


main()
