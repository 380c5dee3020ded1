"""Documents to token shards: what it costs beside the tokenizers library's bare encoding of the same texts, in turns.

Real text of ../shared/data/text in hundreds of languages, in documents of about 3,000 characters, and a byte-level BPE
of 32,000 tokens trained on it. Ours reads Parquet, encodes, counts words and grapheme clusters by language, writes
shards and their checksums; the library has the texts in memory and encodes them. Each run in a process of its own on
one thread; medians of five; the ids must be the same.

    python benchmarks/token_shards.py --json
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from claim import Claim, print_claims
from tokenizer_training import TURNS, VOCAB_SIZE, real_texts
from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.training import train_tokenizer
from worker import WORKERS

MEGABYTES = 40


def write_documents(curated: Path) -> float:
    """Real documents, evenly taken from all of them, as a curated artifact; returns their size in MB."""
    texts = real_texts()
    texts = texts[:: max(1, round(sum(len(text.encode()) for text in texts) / (MEGABYTES * 1e6)))]
    folder = curated / "documents" / "train"
    folder.mkdir(parents=True)
    columns = {
        "id": [hashlib.sha256(f"{number}".encode()).hexdigest()[:32] for number in range(len(texts))],
        "text": texts,
        "language": [f"q{number % 20:02d}" for number in range(len(texts))],
        "source": ["text"] * len(texts),
    }
    parquet.write_table(pa.table(columns), folder / "00000.parquet")
    return sum(len(text.encode()) for text in texts) / 1e6


def encode(program: str, curated: Path, tokenizer: Path) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, str(WORKERS / "token_shard_worker.py"), program, str(curated), str(tokenizer)]
    one_thread = {**os.environ, "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=one_thread).stdout))


def claims() -> Iterator[Claim]:
    """MB per core-second and per second."""
    with tempfile.TemporaryDirectory() as scratch:
        curated, tokenizer = Path(scratch) / "curated", Path(scratch) / "tokenizer"
        megabytes = write_documents(curated)
        train_tokenizer(TokenizerConfiguration(vocab_size=VOCAB_SIZE), curated, tokenizer)
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "tokenizers": []}
        for _ in range(TURNS):
            for program, taken in runs.items():
                taken.append(encode(program, curated, tokenizer))
    if len({run["ids"] for taken in runs.values() for run in taken}) != 1:
        sys.exit("the ids differ: nothing is compared")
    for figure, unit in (("processor_seconds", "core-second"), ("seconds", "second, the machine shared")):
        ours, peer = (megabytes / statistics.median(run[figure] for run in taken) for taken in runs.values())
        job = f"MB per {unit}, {megabytes:.1f} MB of documents to shards, one thread"
        yield Claim(f"{job}; peer: tokenizers' encode_batch alone, the same ids", ours, peer, "at least 0.9")


if __name__ == "__main__":
    print_claims(claims(), __doc__)
