"""What a training stage will cost, before it runs: parameters, tokens, operations, memory, time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from vernacular.foundation.artifact import is_finished, read_artifact
from vernacular.lifecycle.memory import training_memory
from vernacular.lifecycle.recipe import Recipe
from vernacular.lifecycle.runner import resolve_inputs
from vernacular.lifecycle.stages.change_tokenizer import ChangeTokenizer
from vernacular.lifecycle.stages.extend_tokenizer import ExtendTokenizer
from vernacular.lifecycle.stages.pretrain import Pretrain
from vernacular.lifecycle.stages.sft import Sft
from vernacular.lifecycle.stages.train_tokenizer import TrainTokenizer
from vernacular.lifecycle.stages.trim_tokenizer import TrimTokenizer
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.family import configure
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.tokens.shard import INDEX as SHARD_INDEX
from vernacular.tokens.shards import read_index
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.tokenizer_files import TOKENIZER_FILE

# Share of this machine's fp32 matrix-product speed that a whole training step reaches. The demo in bfloat16 reached
# about 0.37 on a busy machine and 0.55 on a quiet one; the lower figure is the safer promise.
ASSUMED_UTILISATION = 0.35


@dataclass(frozen=True)
class Estimate:
    """Cost of a training stage; None where it depends on artifacts not made yet.

    Attributes:
        parameters: weights, all experts counted.
        tokens: of the whole run.
        flops: useful operations of the whole run.
        memory_bytes: on this machine, or on each GPU.
        seconds: of the whole run.
    """

    parameters: int
    tokens: int | None
    flops: float | None
    memory_bytes: float
    seconds: float | None


def estimate(recipe: Recipe, name: str, folder: Path) -> Estimate | None:
    """The cost on this machine of a stage that trains; None for the others, and where the shape is not known yet."""
    stage = recipe.stages[name]
    if not isinstance(stage, Pretrain | Sft):
        return None
    shape = decoder_shape(recipe, name, folder)
    if shape is None:
        return None
    tokens = stage.steps * stage.batch_tokens if stage.steps is not None else None
    flops = None if tokens is None else 3 * shape.forward_flops_per_token(stage.sequence_length) * tokens
    alone = ParallelConfiguration()
    memory = training_memory(shape, stage, alone, alone.sizes(1), stage.micro_batch_rows)
    return Estimate(
        parameters=shape.num_parameters(),
        tokens=tokens,
        flops=flops,
        memory_bytes=memory.total,
        seconds=None if flops is None else flops / (measured_flops() * ASSUMED_UTILISATION),
    )


def decoder_shape(recipe: Recipe, name: str, folder: Path) -> DecoderConfiguration | None:
    """The decoder that a stage trains: its own shape, or that of the weights it begins with."""
    stage = recipe.stages[name]
    paths = resolve_inputs(recipe, name, folder)
    if isinstance(stage, Pretrain) and stage.model is not None:
        size = vocab_size(recipe, name, folder)
        return None if size is None else configure(stage.model, size, stage.sequence_length)
    key = "weights" if "weights" in paths else "weights.0"  # several that are merged are of one shape
    weights = paths.get(key)
    if weights is not None and (weights / "config.json").is_file():
        from vernacular.models.weights import read_config

        found: DecoderConfiguration | None = read_config(weights)
    else:
        source = stage.references().get(key)
        found = decoder_shape(recipe, source, folder) if source in recipe.stages else None
    if found is None or not isinstance(stage, ChangeTokenizer):
        return found
    size = vocab_size(recipe, name, folder)
    rows = None if size is None else -(-size // stage.multiple_of) * stage.multiple_of
    return None if rows is None else found.model_copy(update={"vocab_size": rows})


def vocab_size(recipe: Recipe, name: str, folder: Path) -> int | None:
    """The vocabulary of the tokenizer that a stage makes or is given; None where only making it will tell."""
    stage, paths = recipe.stages[name], resolve_inputs(recipe, name, folder)
    if isinstance(stage, TrainTokenizer):
        return stage.vocab_size
    if isinstance(stage, TrimTokenizer):
        return int(read_artifact(folder / name).summary["vocab_size"]) if is_finished(folder / name) else None
    key = next((key for key in ("tokens", "tokens.0", "tokenizer") if key in paths), None)
    if key is None:
        return None
    source = stage.references()[key]
    found = vocab_size(recipe, source, folder) if source in recipe.stages else _stated_vocab_size(paths[key])
    return found + stage.new_pieces if found is not None and isinstance(stage, ExtendTokenizer) else found


def _stated_vocab_size(path: Path) -> int | None:
    """The vocabulary of token shards, or of a tokenizer, outside the recipe."""
    if (path / SHARD_INDEX).is_file():
        return int(read_index(path)["vocab_size"])
    return Tokenizer.load(path).vocab_size if (path / TOKENIZER_FILE).is_file() else None


@cache
def measured_flops() -> float:
    """This machine's fp32 matrix-product speed, measured now, in operations a second."""
    side = 768
    matrix = np.ones((side, side), dtype=np.float32)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return float(2 * side**3 / best)
