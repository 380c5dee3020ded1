"""Real documents of about 3 kB for every row: passages of the sample texts in ../shared/data/text, read in place."""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

TEXTS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"
BYTES_PER_DOCUMENT = 3000


def passages(languages: tuple[str, ...], count: int) -> list[str]:
    """`count` passages of whole lines, no two of which overlap, of the languages in turns.

    Args:
        languages: files of the guides and the stories (ISO 639-1).
        count: how many; the benchmark ends where the texts hold fewer.
    """
    if not TEXTS.is_dir():
        sys.exit("this benchmark reads ../shared/data/text, which is not there")
    by_language = [_cut(lines_of(language)) for language in languages]
    found = [passage for each in zip(*by_language, strict=False) for passage in each]
    found += [passage for each in by_language for passage in each[min(map(len, by_language)) :]]
    if len(found) < count:
        sys.exit(f"the texts hold {len(found)} passages in {', '.join(languages)}, not {count}")
    return found[:count]


def drawn(by_language: Sequence[list[str]], generator: random.Random) -> str:
    """A document of its own: lines of one of the languages, drawn at random, 3 kB or a little more."""
    lines = generator.choice(by_language)
    chosen: list[str] = []
    size = 0
    while size < BYTES_PER_DOCUMENT or len(chosen) < 2:
        chosen.append(generator.choice(lines))
        size += len(chosen[-1].encode())
    return "\n".join(chosen)


def lines_of(language: str) -> list[str]:
    """Different lines of a language's documents, in order."""
    lines: list[str] = []
    for path in sorted(TEXTS.glob(f"*/{language}.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for record in file:
                lines += json.loads(record)["text"].splitlines()
    # A line that stands in many documents would make strangers similar.
    return list(dict.fromkeys(line for line in lines if line.strip()))


def _cut(lines: list[str]) -> list[str]:
    found: list[str] = []
    gathered: list[str] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line.encode()) + 1
        if size >= BYTES_PER_DOCUMENT:
            found.append("\n".join(gathered))
            gathered, size = [], 0
    return found
