"""What a model has learnt after so many seconds: held-out bits per byte, ours beside AdamW training in transformers.

Both begin with the same weights, read the same tokens in the same order and have the same two threads for the same
time, each in a process of its own, one after the other. Ours is `recipes/own-text.yaml` as it stands, with as many
steps as should fit; the peer has the seconds that ours then took, and trains a Llama of the same shape as nanoGPT
does, at each of four rates, of which its best counts. The loss is that of all held-out targets, each model reading
rows in the way it was trained.

    python benchmarks/learning.py FOLDER
    python benchmarks/learning.py FOLDER --seconds 60

FOLDER holds text, such as ../shared/data/text/pratham_books: children's stories in 17 languages.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.dataset

from vernacular.foundation.machine import describe_machine
from vernacular.lifecycle.recipe import load_recipe
from vernacular.lifecycle.runner import run
from vernacular.lifecycle.stages.pretrain import Pretrain
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import copy_tokenizer, published_token_ids, save_weights
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shards import ShardReader
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.configuration import PretrainConfiguration
from vernacular.training.mup import initialise
from worker import Worker

RECIPE = Path(__file__).parent.parent / "recipes" / "own-text.yaml"
SECONDS = 75.0
PEER_RATES = (0.002, 0.004, 0.008, 0.016)
THREADS = 2
# Of both programs: threads that wait long without sleeping lose much where cores are shared (docs/LOG.md).
WAITING = {"GOMP_SPINCOUNT": "1000"}


def prepare(text: Path, folder: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], float]:
    """The job of both programs, and the held-out bytes that there are for each held-out target."""
    words = [f"corpus={text}", *overrides]
    with contextlib.redirect_stdout(sys.stderr):
        artifacts = run(RECIPE, words, out=folder, until="tokens")
    stage = load_recipe(RECIPE, words).stages["base"]
    assert isinstance(stage, Pretrain)
    assert stage.model is not None
    tokens, tokenizer = artifacts / "tokens", Tokenizer.load(artifacts / "tokenizer")
    decoder = Decoder(configure(stage.model, tokenizer.vocab_size, stage.sequence_length))
    initialise(decoder, stage.seed, stage.optimiser.mup)
    weights = folder / "weights"
    weights.mkdir()
    save_weights(weights, decoder, token_ids=published_token_ids(tokenizer))
    copy_tokenizer(artifacts / "tokenizer", weights)
    rows = PackedRows(ShardReader.open(tokens, "heldout"), stage.sequence_length)
    targets = sum(float(rows.batch([row]).weights_BT.sum()) for row in range(len(rows)))
    texts = pyarrow.dataset.dataset(artifacts / "corpus" / "documents" / "heldout").to_table(["text"])["text"]
    heldout_bytes = sum(len(text.encode()) for text in texts.to_pylist())
    settings = stage.model_dump(include=PretrainConfiguration.model_fields.keys() - {"model"})
    job = {"weights": str(weights), "tokens": str(tokens), "settings": settings, "threads": THREADS}
    return job, heldout_bytes / targets


def measure(text: Path, seconds: float, overrides: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A line for each run, and last the margin."""
    yield {"what": "machine", **describe_machine()}
    with tempfile.TemporaryDirectory() as folder:
        job, bytes_per_target = prepare(text, Path(folder), overrides)
        runs = {
            "ours": ("our_learning_worker.py", [None]),
            "transformers": ("transformers_learning_worker.py", PEER_RATES),
        }
        found: dict[str, list[float]] = {}
        for name, (script, rates) in runs.items():
            with Worker(sys.executable, script, json.dumps(job)) as worker:
                for rate in rates:
                    outcome = worker.ask({"seconds": seconds, "learning_rate": rate})
                    if name == "ours":
                        seconds = outcome["seconds"]  # how many steps fit was an estimate
                    bits = outcome["heldout_loss"] / math.log(2) / bytes_per_target
                    found.setdefault(name, []).append(bits)
                    yield {"what": "run", "program": name, "learning_rate": rate, **outcome, "bits_per_byte": bits}
    ours, peer = min(found["ours"]), min(found["transformers"])
    yield {"what": "held-out bits per byte", "ours": ours, "peer": peer, "ratio": ours / peer, "goal": "below 1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, metavar="FOLDER", help="text to learn")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each run (default: %(default)s)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the recipe")
    arguments = parser.parse_args()
    os.environ.update(WAITING)
    for line in measure(arguments.text, arguments.seconds, arguments.set):
        print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
