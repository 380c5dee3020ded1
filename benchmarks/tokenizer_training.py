"""Time and memory to train a byte-level BPE, ours beside the tokenizers library, in turns.

50 MB: real text of ../shared/data/text in hundreds of languages (read in place), and the same again and again with one
word in thirty misspelt: a large corpus is mostly known words and has ever new ones.
Each training runs in a process of its own on one thread; medians of five; the merges must be the same.

    python benchmarks/tokenizer_training.py --json
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from claim import Claim, print_claims
from worker import WORKERS

TEXT = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "text"
SETS = ("pratham_books/*.jsonl.gz", "opensource_guide/*.jsonl.gz", "ntrex/*.txt.gz", "udhr/*.jsonl.gz")
MEGABYTES = 50
VOCAB_SIZE = 32_000
TURNS = 5
CHARACTERS = 3000
MISSPELT = 30


def real_texts() -> list[str]:
    """Documents of about 3,000 characters."""
    texts: list[str] = []
    for pattern in SETS:
        for path in sorted(TEXT.glob(pattern)):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                whole = [json.loads(line)["text"] for line in file] if ".jsonl" in path.name else [file.read()]
            texts += [text[at : at + CHARACTERS] for text in whole for at in range(0, len(text), CHARACTERS)]
    if not texts:
        sys.exit("this benchmark reads ../shared/data/text, which is not there")
    return texts


def misspelt(text: str, draw: random.Random) -> str:
    """The text with two neighbouring characters changed round in some of its words."""
    words = text.split(" ")
    for place, word in enumerate(words):
        if len(word) > 3 and draw.randrange(MISSPELT) == 0:
            at = draw.randrange(1, len(word) - 1)
            words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def write_texts(path: Path) -> float:
    """The text to learn from; returns its size in MB."""
    texts, draw = real_texts(), random.Random(0)
    size = 0
    with open(path, "w", encoding="utf-8") as file:
        for number in itertools.count():
            text = texts[number % len(texts)]
            written = misspelt(text, draw) if number >= len(texts) else text
            size += len(written.encode())
            file.write(json.dumps(written, ensure_ascii=False) + "\n")
            if size >= MEGABYTES * 1e6:
                break
    return size / 1e6


def train(program: str, texts: Path) -> dict[str, Any]:
    """One training in a process of its own."""
    command = [sys.executable, str(WORKERS / "byte_pair_worker.py"), program, str(texts), str(VOCAB_SIZE)]
    one_thread = {**os.environ, "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=one_thread).stdout))


def claims() -> Iterator[Claim]:
    """Seconds and peak memory."""
    with tempfile.TemporaryDirectory() as scratch:
        texts = Path(scratch) / "texts.jsonl"
        megabytes = write_texts(texts)
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "tokenizers": []}
        for _ in range(TURNS):
            for program, taken in runs.items():
                taken.append(train(program, texts))
    if len({run["merges"] for taken in runs.values() for run in taken}) != 1:
        sys.exit("the merges differ: nothing is compared")

    def median(program: str, figure: str) -> float:
        return statistics.median(run[figure] for run in runs[program])

    job = f"to train {VOCAB_SIZE} tokens on {megabytes:.0f} MB, one thread; peer: tokenizers, the same merges"
    for figure, unit, goal in (
        ("seconds", "seconds", "at most 1"),
        ("processor_seconds", "core-seconds", "at most 1"),
        ("peak_bytes", "bytes of peak memory", "at most 0.5"),
    ):
        yield Claim(f"{unit} {job}", median("ours", figure), median("tokenizers", figure), goal)


if __name__ == "__main__":
    print_claims(claims(), __doc__)
