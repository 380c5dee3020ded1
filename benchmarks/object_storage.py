"""Token shards streamed over S3: what comes in a second, and what a reader of rows gets beside the same local shards.

moto's server, a process of its own on this machine, gives them over HTTP, so both ends share its cores: a lower bound
of what a store with machines of its own allows. Random ids, shards of 4 MB, windows of two of them. A shard counts once
it is checked against its checksum and on the disk. Rows are 4,096 tokens, read in a run's own order, the next shards
fetched meanwhile; the cache is empty at first.

    python benchmarks/object_storage.py --json
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import s3fs

from claim import Claim, print_claims
from vernacular.foundation.files import write_json
from vernacular.tokens.configuration import TokenCacheConfiguration
from vernacular.tokens.elsewhere import mirror_tokens
from vernacular.tokens.look_ahead import LookAhead
from vernacular.tokens.measures import TextCounts
from vernacular.tokens.order import Order
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shard import INDEX
from vernacular.tokens.shard_cache import RemoteShard, ShardCache
from vernacular.tokens.shard_writer import ShardWriter
from vernacular.tokens.shards import FORMAT, ShardReader, ids_dtype

SHARDS, TOKENS_PER_SHARD, VOCABULARY, DOCUMENT = 12, 1 << 21, 32_000, 1 << 12
ROW, ROWS_PER_STEP, WINDOW, TURNS = 4_096, 8, 2, 3
BUCKET = "bucket"


def write_tokens(folder: Path) -> None:
    """Shards of random ids."""
    random_ = np.random.default_rng(0)
    with ShardWriter(
        folder, "train", vocab_size=VOCABULARY, tokens_per_shard=TOKENS_PER_SHARD, weighted=False
    ) as writer:
        for number in range(SHARDS * TOKENS_PER_SHARD // DOCUMENT):
            ids = random_.integers(0, VOCABULARY, DOCUMENT).tolist()
            counts = TextCounts(documents=1, tokens=DOCUMENT, bytes=4 * DOCUMENT)
            writer.add(ids, name=f"{number:032x}", language="pl", source="random", count=counts)
    ids = {"tokenizer_hash": None, "template_hash": None, "pad_id": 0, "begin_id": 1, "end_id": 2}
    dtype = ids_dtype(VOCABULARY).name
    index = {"format": FORMAT, "dtype": dtype, "vocab_size": VOCABULARY, **ids, "splits": {"train": writer.entry}}
    write_json(folder / INDEX, index)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "none").write_text("ids are random", encoding="utf-8")


@contextmanager
def store() -> Iterator[s3fs.S3FileSystem]:
    """S3 over HTTP with an empty bucket; whatever asks for `s3://` in this process finds it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="benchmark",
        AWS_SECRET_ACCESS_KEY="benchmark",
        AWS_DEFAULT_REGION="us-east-1",
    )
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        files = s3fs.S3FileSystem()
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        files.mkdir(BUCKET)
        yield files
    finally:
        server.kill()
        server.wait()


def fetch(mirror: Path, cache: ShardCache) -> float:
    """Seconds until every shard is here."""
    shards = [shard for shard in ShardReader([mirror], "train", cache=cache).shards if isinstance(shard, RemoteShard)]
    begun = time.perf_counter()
    for shard in shards:
        shard.array("ids")
    return time.perf_counter() - begun


def read(folder: Path, cache: ShardCache) -> float:
    """Seconds for all rows in a run's order."""
    rows = PackedRows(ShardReader([folder], "train", cache=cache), ROW, window=WINDOW)
    order = Order(len(rows), ROWS_PER_STEP, 0, rows.epochs)
    look_ahead = LookAhead(cache, rows, order, heldout=[])
    begun = time.perf_counter()
    for step in range(len(rows) // ROWS_PER_STEP):
        look_ahead.begin(step)
        rows.batch(order.indices(step))
    return time.perf_counter() - begun


def claims() -> Iterator[Claim]:
    """MB and tokens per second."""
    with tempfile.TemporaryDirectory() as scratch, store() as files:
        local, caches = Path(scratch) / "tokens", 0
        write_tokens(local)
        num_bytes = sum(path.stat().st_size for path in (local / "train").iterdir())
        files.put(f"{local}/", f"{BUCKET}/tokens", recursive=True)
        settings = TokenCacheConfiguration(folder=str(Path(scratch) / "first"))
        mirror = mirror_tokens(f"s3://{BUCKET}/tokens", Path(scratch) / "mirror", settings, ["tokenizer"])

        def cache() -> ShardCache:
            nonlocal caches
            caches += 1
            return ShardCache(TokenCacheConfiguration(folder=str(Path(scratch) / f"cache-{caches}")))

        def download() -> float:
            begun = time.perf_counter()
            files.get(f"{BUCKET}/tokens/train", str(Path(scratch) / f"copy-{time.time_ns()}"), recursive=True)
            return time.perf_counter() - begun

        fetched, copied, streamed, mapped = ([] for _ in range(4))
        for _ in range(TURNS):
            fetched.append(fetch(mirror, cache()))
            copied.append(download())
            streamed.append(read(mirror, cache()))
            mapped.append(read(local, cache()))
    ours, peer = (num_bytes / 1e6 / statistics.median(taken) for taken in (fetched, copied))
    job = f"MB/s of shards, {num_bytes / 1e6:.0f} MB"
    yield Claim(f"{job}; peer: s3fs's own copy, which checks nothing", ours, peer, "at least 0.5")
    tokens = SHARDS * TOKENS_PER_SHARD
    ours, peer = (tokens / statistics.median(taken) for taken in (streamed, mapped))
    yield Claim("tokens/s of rows, not trained on; peer: the same shards on the local disk", ours, peer, "none")


if __name__ == "__main__":
    print_claims(claims(), __doc__)
