"""How curation grows: processor time per document and peak memory at 1, 10 and 100 times the input. No peer.

    python benchmarks/corpus_growth.py --plot docs/images/corpus_growth.svg

Documents are made of lines of the sample texts in ../shared/data/text, drawn anew for each, in ten languages; one in
twenty is a copy of an earlier one with a line changed. One worker, 2 GB of memory allowed.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus_rows.documents import drawn, lines_of

LANGUAGES = ("hi", "en", "de", "pl", "ta", "fr", "bn", "es", "mr", "te")
MEGABYTES = (2, 20, 200)
MEMORY = "2GB"
COPIES = 20
WORKER = Path(__file__).parent / "workers" / "growth_worker.py"


def write(path: Path, size: int) -> None:
    """Write about `size` bytes of documents as JSON Lines."""
    generator = random.Random(size)
    by_language = [lines_of(language) for language in LANGUAGES]
    earlier: list[str] = []
    written = 0
    with open(path, "w", encoding="utf-8") as file:
        while written < size:
            if len(earlier) >= COPIES and generator.randrange(COPIES) == 0:
                lines = generator.choice(earlier)
                lines = lines[: lines.rindex("\n")]
            else:
                lines = drawn(by_language, generator)
                earlier = [*earlier[-500:], lines]
            file.write(json.dumps({"text": lines}, ensure_ascii=False) + "\n")
            written += len(lines.encode())


def measure(sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Of each size in megabytes: documents, microseconds of the processor per document, peak memory in bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        for megabytes in sizes:
            folder = Path(scratch) / str(megabytes)
            folder.mkdir()
            write(folder / "documents.jsonl", megabytes * 1_000_000)
            command = [sys.executable, str(WORKER), str(folder / "documents.jsonl"), str(folder / "out"), MEMORY]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            yield {"megabytes": megabytes, **json.loads(done.stdout.splitlines()[-1])}


def plot(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw time and memory over size."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    sizes = [line["megabytes"] for line in lines]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    drawn = (
        ("core time a document, µs", [line["microseconds"] for line in lines]),
        ("peak memory, MB", [line["peak_bytes"] / 1e6 for line in lines]),
    )
    for axis, (title, values) in zip(axes, drawn, strict=True):
        axis.plot(sizes, values, marker="o")
        axis.set(title=title, xlabel="text, MB", xscale="log", ylim=(0, 1.3 * max(values)))
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=MEGABYTES, help="sizes of the input")
    parser.add_argument("--plot", type=Path, help="draw the figures there")
    arguments = parser.parse_args()
    lines = []
    for line in measure(tuple(arguments.megabytes)):
        lines.append(line)
        print(json.dumps(line), flush=True)
    if arguments.plot:
        plot(lines, arguments.plot)


if __name__ == "__main__":
    main()
