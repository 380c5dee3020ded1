"""Documents to ids in a process of its own: `token_shard_worker.py {ours,tokenizers} CURATED TOKENIZER`.

Prints what it took and a hash of every document's ids, as JSON. Reading the texts is part of the work for ours, and not
for the library.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import tokenizers

from vernacular.tokens.configuration import TokenizeConfiguration
from vernacular.tokens.shards import ShardReader
from vernacular.tokens.tokenization import tokenize_documents
from vernacular.tokens.tokenizer import Tokenizer

# As many at a time as ours.
BATCH = 1024


def digest(documents: Iterable[object]) -> str:
    """One hash of all documents' ids, whatever their order."""
    hashes = sorted(hashlib.sha256(np.asarray(ids, dtype=np.int64).tobytes()).hexdigest() for ids in documents)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds and processor seconds of one run."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}


def ours(curated: Path, folder: Path) -> dict[str, object]:
    """The whole stage."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        configuration = TokenizeConfiguration(splits=("train",))
        took = timed(lambda: tokenize_documents(configuration, curated, folder, out))
        reader = ShardReader.open(out, "train")
        ranges = map(reader.document_range, range(reader.num_documents))
        return {**took, "ids": digest(reader.slice(start, stop) for start, stop in ranges)}


def peer(curated: Path, folder: Path) -> dict[str, object]:
    """The library's own batch encoding of texts that lie in memory."""
    texts = parquet.read_table(curated / "documents" / "train").column("text").to_pylist()
    engine = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    engine.encode_special_tokens = True
    found: list[list[int]] = []

    def work() -> None:
        for at in range(0, len(texts), BATCH):
            encodings = engine.encode_batch(texts[at : at + BATCH], add_special_tokens=False)
            found.extend(encoding.ids for encoding in encodings)

    took = timed(work)
    tokenizer = Tokenizer.load(folder)
    return {**took, "ids": digest([*tokenizer.begin_ids, *ids, tokenizer.end_id] for ids in found)}


if __name__ == "__main__":
    program, *folders = sys.argv[1:]
    print(json.dumps({"ours": ours, "tokenizers": peer}[program](*map(Path, folders))))
