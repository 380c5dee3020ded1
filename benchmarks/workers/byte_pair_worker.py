"""Train a byte-level BPE in a process of its own: `byte_pair_worker.py {ours,tokenizers} TEXTS VOCAB_SIZE`.

TEXTS is a file of texts, one JSON string a line. Prints what it took and a hash of the merges, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator

from protocol import peak_bytes
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from vernacular.tokens.byte_pair_training import train_byte_pairs
from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.pre_tokenizer import split_pattern, word_cutter
from vernacular.tokens.word_counts import WordCounts


def read_texts(path: str) -> Iterator[str]:
    """The texts, one at a time."""
    with open(path, encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def train_ours(path: str, configuration: TokenizerConfiguration) -> Tokenizer:
    """Words counted, then merges learnt from the counts."""
    words = WordCounts(word_cutter(), configuration.max_words)
    words.add(read_texts(path))
    return Tokenizer(train_byte_pairs(configuration, words))


def train_peer(path: str, configuration: TokenizerConfiguration) -> Tokenizer:
    """The library's trainer over the same cuts."""
    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split_pattern()), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=configuration.vocab_size,
        min_frequency=configuration.min_frequency,
        special_tokens=list(configuration.all_special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=configuration.max_token_bytes + 1,  # it makes tokens that are shorter than that
        show_progress=False,
    )
    peer.train_from_iterator(read_texts(path), trainer)
    return peer


def main() -> None:
    """Train, and say what it took."""
    program, path, vocab_size = sys.argv[1:]
    configuration = TokenizerConfiguration(vocab_size=int(vocab_size))
    wall, processor = time.perf_counter(), time.process_time()
    trained = {"ours": train_ours, "tokenizers": train_peer}[program](path, configuration)
    took = {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
    merges = json.dumps(json.loads(trained.to_str())["model"]["merges"])
    took["peak_bytes"] = peak_bytes()
    print(json.dumps({**took, "merges": hashlib.sha256(merges.encode()).hexdigest()}))


if __name__ == "__main__":
    main()
