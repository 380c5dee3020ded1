"""The tokenizer on real text: fertility beside the popular split without combining marks, and seconds and MB/s.

Reads `../shared/data/text/pratham_books` (children's stories in 17 languages) in place.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import tokenizers
import transformers

from claim import Claim, print_claims
from vernacular.tokens.configuration import TokenizeConfiguration, TokenizerConfiguration
from vernacular.tokens.measures import count_words
from vernacular.tokens.tokenization import tokenize_documents
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.training import train_tokenizer

STORIES = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "text" / "pratham_books"
VOCAB_SIZE = 16384


def read_stories() -> dict[str, list[str]]:
    """Stories by language."""
    if not STORIES.is_dir():
        sys.exit("this benchmark reads ../shared/data/text/pratham_books, which is not there")
    stories: dict[str, list[str]] = {}
    for path in sorted(STORIES.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            stories[path.name.split(".")[0]] = [json.loads(line)["text"] for line in lines]
    return stories


def write_curated(stories: dict[str, list[str]], folder: Path) -> None:
    """The stories as a curated artifact's documents, each tenth held out."""
    rows = sorted(
        (hashlib.sha256(text.encode()).hexdigest()[:32], text, language)
        for language, texts in stories.items()
        for text in texts
    )
    for split, chosen in {"train": [r for n, r in enumerate(rows) if n % 10], "heldout": rows[::10]}.items():
        (folder / "documents" / split).mkdir(parents=True)
        columns = dict(zip(("id", "text", "language"), map(list, zip(*chosen, strict=True)), strict=True))
        parquet.write_table(pa.table(columns), folder / "documents" / split / "00000.parquet")


def train_peer(texts: list[str]) -> tokenizers.Tokenizer:
    """The same trainer over GPT-2's split, whose words are letters without their marks."""
    peer = tokenizers.Tokenizer(tokenizers.models.BPE())
    peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, min_frequency=2, initial_alphabet=alphabet, show_progress=False
    )
    peer.train_from_iterator(texts, trainer)
    return peer


def seconds(work: Callable[[], object]) -> float:
    """Wall time in seconds of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def claims() -> Iterator[Claim]:
    """Fertility of each language with at least 20,000 words; then time to train, to encode, to write shards."""
    stories = read_stories()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_curated(stories, folder / "curated")
        train = parquet.read_table(folder / "curated" / "documents" / "train").column("text").to_pylist()
        configuration = TokenizerConfiguration(vocab_size=VOCAB_SIZE)
        our_seconds = seconds(lambda: train_tokenizer(configuration, folder / "curated", folder / "tokenizer"))
        trained: list[tokenizers.Tokenizer] = []
        peer_seconds = seconds(lambda: trained.append(train_peer(train)))
        ours, peer = Tokenizer.load(folder / "tokenizer"), trained[0]
        megabytes = sum(len(text.encode()) for text in train) / 1e6
        yield Claim(
            f"seconds to train {VOCAB_SIZE} tokens on {megabytes:.1f} MB, with report; peer: bare trainer, GPT-2 split",
            our_seconds,
            peer_seconds,
            "at most 3 times the peer's",
        )
        heldout = parquet.read_table(folder / "curated" / "documents" / "heldout").to_pylist()
        for language, texts in stories.items():
            held = [row["text"] for row in heldout if row["language"] == language]
            words = sum(map(count_words, held))
            if sum(map(count_words, texts)) < 20_000 or not words:
                continue
            yield Claim(
                f"tokens per word, {language}, held-out stories; peer: GPT-2 split, same text and vocabulary",
                sum(map(len, ours.encode_batch(held))) / words,
                sum(len(encoding.ids) for encoding in peer.encode_batch(held)) / words,
                "below 1 where the script has combining marks",
            )
        theirs = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
        yield Claim(
            "MB/s encoded, all cores; peer: transformers with the same tokenizer",
            megabytes / min(seconds(lambda: ours.encode_batch(train)) for _ in range(3)),
            megabytes / min(seconds(lambda: theirs(train)) for _ in range(3)),
            "at least the peer's",
        )
        shards = TokenizeConfiguration()
        written = sum(len(text.encode()) for texts in stories.values() for text in texts) / 1e6
        yield Claim(
            "MB/s from Parquet to token shards, counted by language; peer: transformers encoding alone",
            written
            / seconds(lambda: tokenize_documents(shards, folder / "curated", folder / "tokenizer", folder / "t")),
            megabytes / min(seconds(lambda: theirs(train)) for _ in range(3)),
            "at least half the peer's",
        )


if __name__ == "__main__":
    print_claims(claims(), __doc__)
