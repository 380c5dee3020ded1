"""Tokens per second, memory and time to the first token, ours beside transformers and llama.cpp.

Random weights of three sizes (70 and 350 million parameters, and a mixture of experts of 85); prompts of 128 tokens;
greedy; two threads. Each program runs in a process of its own and they take turns; a figure is the median of five
turns. Decoding is what the tokens after the first take. Before anything is timed, float32 answers of ours and of
transformers are compared token by token.

    python benchmarks/inference.py --llama-cpp PYTHON

PYTHON belongs to an environment with `pip install llama-cpp-python==0.3.36`, built with its default native flags.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from random_weights import SIZES, write_weights
from vernacular.foundation.machine import describe_machine
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.weights import read_config
from worker import Worker

PROMPT_TOKENS = 128
NEW_TOKENS = 48
TURNS = 5
MEASURED = ("70M", "350M", "MoE 85M")
THREADS = 2
READ_ELEMENTS = 1 << 28


class Decoding(Worker):
    """A program that decodes."""

    def __init__(self, python: str, script: str, weights: Path, dtype: str, threads: int = THREADS) -> None:
        super().__init__(python, script, str(weights), dtype, str(threads))

    def decode(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> dict[str, Any]:
        """Decode, and what it took."""
        return self.ask({"prompts": prompts, "new_tokens": new_tokens})


@dataclass(frozen=True)
class Figures:
    """Medians of one program's turns."""

    prefill_per_second: float
    decode_per_second: float
    decode_per_processor_second: float
    peak_bytes: int


def take_turns(workers: Mapping[str, Decoding], number: int, vocabulary: int) -> dict[str, Figures]:
    """Every program's figures on the same prompts, in turns; none twice, for ours remembers beginnings."""
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in workers}
    peaks = dict.fromkeys(workers, 0)
    for turn in range(TURNS + 1):
        prompts, others = (make_prompts(number, vocabulary, seed=2 * turn + half) for half in range(2))
        for name, worker in workers.items():
            first, whole = worker.decode(prompts, 1), worker.decode(others, NEW_TOKENS)
            peaks[name] = whole["peak_bytes"]
            if turn:  # The first turn warms up.
                seconds = whole["seconds"] - first["seconds"]
                processor = whole["processor_seconds"] - first["processor_seconds"]
                taken[name].append((first["seconds"], seconds, processor))
    decoded, read = number * (NEW_TOKENS - 1), number * PROMPT_TOKENS
    figures = {}
    for name, turns in taken.items():
        prefill, decode, processor = (statistics.median(values) for values in zip(*turns, strict=True))
        figures[name] = Figures(read / prefill, decoded / decode, decoded / processor, peaks[name])
    return figures


def make_prompts(number: int, vocabulary: int, seed: int = 0) -> list[list[int]]:
    """Random ids, each prompt with a beginning of its own."""
    numbers = random.Random(f"{number} {seed}")
    return [[1, *(numbers.randrange(10, vocabulary) for _ in range(PROMPT_TOKENS - 1))] for _ in range(number)]


def bandwidth() -> float:
    """Bytes a second that two threads read: what decoding one token at a time is bound by."""
    torch.set_num_threads(THREADS)
    numbers = torch.ones(READ_ELEMENTS)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - started)
    return 4 * READ_ELEMENTS / best


def weight_bytes(shape: DecoderConfiguration, bytes_per_weight: float) -> float:
    """Bytes of weights that one token is multiplied with."""
    embedding = 0 if shape.tie_embeddings else shape.vocab_size * shape.hidden_size
    return (shape.num_active_parameters() - embedding) * bytes_per_weight


def check_answers(weights: Path) -> None:
    """Refuse to measure programs that do not compute the same."""
    prompts = make_prompts(3, read_config(weights).vocab_size)
    with (
        Decoding(sys.executable, "our_worker.py", weights, "float32") as ours,
        Decoding(sys.executable, "transformers_worker.py", weights, "float32") as theirs,
    ):
        if ours.decode(prompts, 16)["tokens"] != theirs.decode(prompts, 16)["tokens"]:
            raise SystemExit(f"the answers differ: {weights}")


def programs(weights: Path, llama_cpp: str | None, stack: ExitStack, *, gguf: bool) -> dict[str, Decoding]:
    """Ours in three formats and the peers, each loaded."""
    formats = ("bfloat16", "int8", "int4") if gguf else ("bfloat16", "int8")
    workers = {f"ours {name}": Decoding(sys.executable, "our_worker.py", weights, name) for name in formats}
    workers["transformers bfloat16"] = Decoding(sys.executable, "transformers_worker.py", weights, "bfloat16")
    if gguf and llama_cpp:
        from vernacular.models.bridge import export_weights

        for name, dtype in (("BF16", "bfloat16"), ("Q8_0", "q8_0")):
            file = weights.parent / f"{name}.gguf"
            export_weights(weights, file, "gguf", dtype=dtype, ids_only=True)
            workers[f"llama.cpp {name}"] = Decoding(llama_cpp, "llama_cpp_worker.py", file, name)
    for worker in workers.values():
        stack.enter_context(worker)
    return workers


def first_token(weights: Path) -> Iterator[dict[str, Any]]:
    """Seconds from the start of a process to its first token, in bfloat16, file system warm."""
    prompts = make_prompts(1, read_config(weights).vocab_size)
    scripts = {"ours": "our_worker.py", "transformers": "transformers_worker.py"}
    taken: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(TURNS):
        for name, script in scripts.items():
            started = time.perf_counter()
            with Decoding(sys.executable, script, weights, "bfloat16") as worker:
                worker.decode(prompts, 1)
                taken[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    yield {"what": "seconds from start to first token, 350M, bfloat16", **medians}


def measure(llama_cpp: str | None, sizes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The table's rows of these sizes, one by one."""
    bytes_per_second = bandwidth()
    yield {"what": "machine", **describe_machine(), "bandwidth_bytes_per_second": bytes_per_second}
    for size in sizes:
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            weights = write_weights(Path(name), size, dtype="bfloat16")
            check_answers(weights)
            workers = programs(weights, llama_cpp, stack, gguf=SIZES[size].get("family") is None)
            for number in (1, 16):
                figures = take_turns(workers, number, read_config(weights).vocab_size)
                for program, one in figures.items():
                    line = {"what": f"{size}, batch {number}", "program": program, **vars(one)}
                    if number == 1:
                        share = {"bfloat16": 2.0, "BF16": 2.0, "int8": 1.0, "Q8_0": 1.0625, "int4": 0.53}
                        moved = weight_bytes(read_config(weights), share[program.split()[1]]) * one.decode_per_second
                        line["bandwidth_share"] = moved / bytes_per_second
                    for peer, other in figures.items():
                        if program.startswith("ours") and not peer.startswith("ours"):
                            line[f"× {peer}"] = one.decode_per_second / other.decode_per_second
                    yield line
            if size == "350M":
                for worker in workers.values():
                    worker.__exit__()
                yield from first_token(weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", metavar="PYTHON", help="an interpreter whose environment has llama-cpp-python")
    parser.add_argument("--sizes", nargs="+", choices=MEASURED, default=MEASURED, help="models to measure")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    arguments = parser.parse_args()
    for line in measure(arguments.llama_cpp, arguments.sizes):
        if arguments.json:
            print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            print(", ".join(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}"
                            for key, value in line.items()), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
