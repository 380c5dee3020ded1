"""Removes near-duplicates with datatrove's four stages of MinHash, one after another in this process.

Words are cut by the tokenizer of its Hindi, since that of English wants a model to be downloaded.
"""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from deduplication_protocol import serve

LANGUAGE = "hin_Deva"
BUCKETS = 14


def run(documents: Path, folder: Path, seed: int) -> functools.partial[list[str]]:
    """Remove near-duplicates in one process."""
    settings = MinhashConfig(
        hash_config=HashConfig(precision=64), num_buckets=BUCKETS, hashes_per_bucket=8, n_grams=5, seed=seed + 1
    )
    signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
    stages = (
        ([JsonlReader(str(documents)), MinhashDedupSignature(signatures, config=settings, language=LANGUAGE)], 1),
        ([MinhashDedupBuckets(signatures, buckets, config=settings)], BUCKETS),
        ([MinhashDedupCluster(buckets, removed, config=settings)], 1),
        (
            [
                JsonlReader(str(documents)),
                MinhashDedupFilter(removed),
                JsonlWriter(str(folder / "out"), compression=None),
            ],
            1,
        ),
    )
    for number, (steps, tasks) in enumerate(stages):
        LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=str(folder / "logs" / str(number))).run()
    return functools.partial(_ids, folder / "out")


def _ids(folder: Path) -> list[str]:
    lines = (line for path in folder.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines())
    return [json.loads(line)["id"] for line in lines]


if __name__ == "__main__":
    logging.disable()
    serve(run)
