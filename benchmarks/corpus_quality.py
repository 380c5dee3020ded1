"""Documents a core grades in a second: all 93 features and the classifier, beside a spaCy pipeline that computes 45.

Real documents of 3 kB in English, Hindi, Tamil and Polish, read in place below `../shared/data/text`; a classifier of
the default size, trained on 200 of them. Each program is a process of its own on one thread, and they take turns; a
figure is the median of five. Features that both define alike are compared document by document.

    python benchmarks/corpus_quality.py --spacy PYTHON

PYTHON belongs to an environment with `pip install spacy==3.8.18 xgboost-cpu==3.2.0`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from claim import Claim
from vernacular.corpus.document import DOCUMENT_SCHEMA, document_id
from vernacular.corpus.quality.configuration import Damage, TrainQualityConfiguration
from vernacular.corpus.quality.training import train_quality
from worker import Worker

TEXT = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "text"
LANGUAGES = ("en", "hi", "ta", "pl")
BYTES = 3000
TURNS = 5
TRAINED_ON = 200
PEER_DOCUMENTS = 200
TOLERANCE = 1e-4


def documents() -> Iterator[tuple[str, str]]:
    """Texts of 3 kB and their languages."""
    if not TEXT.is_dir():
        sys.exit("this benchmark reads ../shared/data/text, which is not there")
    for language in LANGUAGES:
        for path in sorted(TEXT.glob(f"*/{language}.jsonl.gz")):
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                for line in lines:
                    raw = json.loads(line)["text"].encode()
                    for begin in range(0, len(raw) - BYTES + 1, BYTES):
                        yield raw[begin : begin + BYTES].decode(errors="ignore"), language


def write_classifier(texts: list[str], languages: list[str], folder: Path, lexicons: tuple[str, ...]) -> Path:
    """A classifier of the default size."""
    chosen = np.random.default_rng(0).permutation(len(texts))[:TRAINED_ON]
    rows = sorted(
        ({"id": document_id(texts[at]), "text": texts[at], "language": languages[at]} for at in chosen),
        key=lambda row: row["id"],
    )
    filled = [{**row, "script": "Zyyy", "source": "", "quality": None, "provenance": ""} for row in rows]
    schema = pa.schema([field for field in DOCUMENT_SCHEMA if field.name in filled[0]])
    train = folder / "corpus" / "documents" / "train"
    train.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(filled, schema=schema), train / "00000.parquet")
    settings = TrainQualityConfiguration(
        lexicons=lexicons, damage=Damage(copies=2), folds=2, minimum_documents=5, maximum_documents=TRAINED_ON
    )
    train_quality(settings, folder / "corpus", None, folder / "quality")
    return folder / "quality"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spacy", required=True, metavar="PYTHON", help="interpreter of an environment with spaCy")
    parser.add_argument("--lexicons", nargs="*", default=["pl", "hi", "en"], help="languages whose lexicon is read")
    arguments = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    texts, languages = map(list, zip(*documents(), strict=True))
    few = np.random.default_rng(1).permutation(len(texts))[:PEER_DOCUMENTS].tolist()
    everything = {"texts": texts, "languages": languages}
    part = {key: [values[at] for at in few] for key, values in everything.items()}
    with tempfile.TemporaryDirectory() as scratch:
        model = write_classifier(texts, languages, Path(scratch), tuple(arguments.lexicons))
        with (
            Worker(sys.executable, "our_quality_worker.py", str(model)) as ours,
            Worker(arguments.spacy, "spacy_quality_worker.py", str(model / "model.ubj")) as peer,
        ):
            theirs = peer.ask(part)["measured"]
            for name, values in ours.ask(part)["measured"].items():
                if not np.allclose(values, theirs[name], rtol=TOLERANCE, atol=TOLERANCE):
                    sys.exit(f"the answers differ: {name}")
            cold = ours.ask(everything)["processor_seconds"]
            turns = [
                (ours.ask(everything)["processor_seconds"], peer.ask(part)["processor_seconds"]) for _ in range(TURNS)
            ]
    our_seconds, peer_seconds = (statistics.median(side) for side in zip(*turns, strict=True))
    claim = Claim(
        f"documents of 3 kB graded a core-second, 93 features and classifier ({len(texts):,} texts); peer: spaCy, 45",
        len(texts) / our_seconds,
        len(few) / peer_seconds,
        "ours at least 1,000",
    )
    print(f"{claim.name}: ours {claim.ours:.0f} (first pass over them {len(texts) / cold:.0f}), peer {claim.peer:.1f}")
    print(f"ratio {claim.ratio:.1f} (goal: {claim.goal}); {claim.machine}")


if __name__ == "__main__":
    main()
