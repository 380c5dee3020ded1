"""Merging of 350M models in float32 beside mergekit, each a process from the command to the written folder, in turns.

    pip install mergekit transformers torch --constraint constraints.txt     in an environment of its own: PYTHON
    python benchmarks/merging.py --peer PYTHON
    python benchmarks/merging.py --size smoke                                ours alone, in small

The models are a base and three others that lie near it. Ours runs a recipe of one stage, which also takes checksums of
what it reads and writes. Both must write the same weights, to a few units of float32's last place, or nothing is said.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from random_weights import SIZES, write_weights
from vernacular.foundation.machine import describe_machine
from vernacular.models.tensor_files import TENSORS

MODELS = ("first", "second", "third")
METHODS: Mapping[str, Mapping[str, Any]] = {
    "linear": {"models": 2, "ours": {"shares": [1.0, 1.0]}, "theirs": {}, "each": {"weight": 1.0}},
    "slerp": {"models": 2, "ours": {"position": 0.3}, "theirs": {"t": 0.3}, "each": {}},
    "ties": {
        "models": 3,
        "ours": {"density": 0.3, "base": "base"},
        "theirs": {"normalize": True},
        "each": {"weight": 1.0, "density": 0.3},
    },
}
LARGEST_DIFFERENCE = 1e-6


def write_models(folder: Path, size: str) -> None:
    """A base, and models whose weights are the base's and a tenth of as much noise."""
    write_weights(folder, size, initializer_range=0.02).rename(folder / "base")
    base = load_file(folder / "base" / TENSORS)
    numbers = torch.Generator().manual_seed(0)
    for name in MODELS:
        shutil.copytree(folder / "base", folder / name)
        drawn = {key: base[key] + 0.002 * torch.randn(base[key].shape, generator=numbers) for key in base}
        save_file(drawn, folder / name / TENSORS, metadata={"format": "pt"})


def our_command(folder: Path, method: str, out: Path) -> list[str]:
    """The recipe of one stage, written; the command that runs it."""
    settings = METHODS[method]
    stage = {"do": "merge", "method": method, "weights": [str(folder / name) for name in MODELS[: settings["models"]]]}
    stage |= {key: str(folder / value) if key == "base" else value for key, value in settings["ours"].items()}
    recipe = out.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump({"name": out.name, "stages": {"merged": stage}}), encoding="utf-8")
    return [sys.executable, "-m", "vernacular.cli.main", "run", str(recipe), "--out", str(out.parent)]


def their_command(python: str, folder: Path, method: str, out: Path) -> list[str]:
    """The same for mergekit."""
    settings = METHODS[method]
    models = [
        {"model": str(folder / name), **({"parameters": settings["each"]} if settings["each"] else {})}
        for name in MODELS[: settings["models"]]
    ]
    base = {"slerp": MODELS[0], "ties": "base"}.get(method)
    merge = {"merge_method": method, "models": models, "dtype": "float32"}
    merge |= {"base_model": str(folder / base)} if base else {}
    merge |= {"parameters": settings["theirs"]} if settings["theirs"] else {}
    config = out.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(merge), encoding="utf-8")
    return [str(Path(python).parent / "mergekit-yaml"), str(config), str(out), "--out-shard-size", "20B"]


def taken(command: Sequence[str], out: Path) -> dict[str, float]:
    """Seconds, core-seconds and peak memory of a process that writes a folder, which must not be there before."""
    shutil.rmtree(out, ignore_errors=True)
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        if status:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read()}")
    return {
        "seconds": seconds,
        "core_seconds": used.ru_utime + used.ru_stime,
        "peak_gb": used.ru_maxrss * 1024 / 1e9,
    }


def compare(folder: Path, method: str, ours: Path, theirs: Path) -> dict[str, float]:
    """The largest difference between numbers of two folders of the same tensors, and how many were not compared."""
    a, b = load_file(ours / TENSORS), load_file(theirs / TENSORS)
    if a.keys() != b.keys():
        raise SystemExit(f"not the same tensors: {sorted(a.keys() ^ b.keys())}")
    largest, left_out = 0.0, 0
    models = [load_file(folder / name / TENSORS) for name in ("base", *MODELS)] if method == "ties" else []
    for name in a:
        difference = (a[name] - b[name]).abs()
        if method == "ties":
            base, *learned = (model[name] for model in models)
            open_N = undecided(torch.stack([own - base for own in learned]))
            difference[open_N] = 0
            left_out += int(open_N.sum())
        largest = max(largest, float(difference.max()))
    return {"largest_difference": largest, "not_compared": left_out}


def undecided(changes_MN: torch.Tensor) -> torch.Tensor:
    """Where TIES leaves open what comes out: several changes are as large as the least kept one, or a vote is even.

    Ours keeps all such changes, and changes nothing by an even vote; mergekit keeps some, and takes it for plus.
    """
    kept_MN, open_N = changes_MN.clone(), torch.zeros(changes_MN.shape[1:], dtype=torch.bool)
    for change_N, kept_N in zip(changes_MN, kept_MN, strict=True):
        sizes_N = change_N.abs()
        kept = int(METHODS["ties"]["each"]["density"] * sizes_N.numel())
        bound = float(np.partition(sizes_N.numpy().ravel(), -kept)[-kept])
        kept_N[sizes_N < bound] = 0
        if int((at_bound_N := sizes_N == bound).sum()) > 1:
            open_N |= at_bound_N
    return open_N | ((kept_MN.sum(dim=0) == 0) & (kept_MN != 0).any(dim=0))


def measure(methods: Sequence[str], size: str, peer: str | None, turns: int) -> Iterator[dict[str, Any]]:
    """A line for each method: medians of both, and their ratios."""
    # Whole models are held in another process: Linux counts a parent's memory to the peak of what it starts.
    with tempfile.TemporaryDirectory() as place, ProcessPoolExecutor(1, get_context("spawn")) as apart:
        folder = Path(place)
        apart.submit(write_models, folder, size).result()
        for method in methods:
            ours, theirs = folder / f"ours-{method}", folder / f"theirs-{method}"
            commands = {"ours": (our_command(folder, method, ours), ours)}
            if peer is not None:
                commands["mergekit"] = (their_command(peer, folder, method, theirs), theirs)
            found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
            line: dict[str, Any] = {"what": method, "models": METHODS[method]["models"]}
            for turn in range(turns):
                for name, (command, out) in commands.items():
                    found[name].append(taken(command, out))
                if peer is not None and turn == 0:
                    line |= apart.submit(compare, folder, method, ours / "merged", theirs).result()
                    if line["largest_difference"] > LARGEST_DIFFERENCE:
                        raise SystemExit(
                            f"{method}: other weights than mergekit's, by {line['largest_difference']:.1e}"
                        )
            for name, runs in found.items():
                line[name] = {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
            if peer is not None:
                line["ratio"] = {key: round(line["ours"][key] / line["mergekit"][key], 2) for key in line["ours"]}
            yield line
            shutil.rmtree(ours)
            shutil.rmtree(theirs, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peer", metavar="PYTHON", help="interpreter of an environment with mergekit; none: ours alone"
    )
    parser.add_argument("--size", choices=SIZES, default="350M", help="of each model (350M)")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="of each method and program (5)")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS), help="these methods (all)")
    arguments = parser.parse_args()
    print(json.dumps({"what": "machine", **describe_machine(), "size": arguments.size}), flush=True)
    for line in measure(arguments.only, arguments.size, arguments.peer, arguments.turns):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
