"""The layout a plan proposes: the simplest way to spread a training stage over GPUs that fits their memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

from pydantic import ValidationError

from vernacular.foundation.errors import UserError
from vernacular.lifecycle.memory import Memory, training_memory
from vernacular.models.configuration import DecoderConfiguration
from vernacular.parallel.configuration import ActivationCheckpointing, ParallelConfiguration, Sizes
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.hardware import Gpu
from vernacular.training.optimisation import EIGHT_BIT_BLOCK

_CHECKPOINTING: tuple[ActivationCheckpointing, ...] = ("none", "selective", "full")
_LONGEST_PIPELINE = 16


@dataclass(frozen=True)
class Layout:
    """How a stage is spread.

    Attributes:
        parallel: the settings, complete.
        sizes: ranks along each dimension.
        micro_rows: rows of a micro-batch on each data rank.
        micro_batches: micro-batches of a step.
        memory: of the fullest GPU.
    """

    parallel: ParallelConfiguration
    sizes: Sizes
    micro_rows: int
    micro_batches: int
    memory: Memory


def propose(
    shape: DecoderConfiguration, training: TrainingConfiguration, gpu: Gpu, gpus: int, *, fill: float
) -> Layout:
    """The first layout that fits and that training accepts, from simple to involved.

    1. Cuts: as few as possible; of as many, experts before tensor (within a node) before context before pipeline.
    2. Within these: no activation checkpointing before selective before full.
    3. Within these: weights whole (`zero_stage` 1), then sharded (3) over a node, then over ever more of them.
       Stage 2 is never proposed: it saves less than 3 and sends as much for every micro-batch.
    4. The largest micro-batch, at most the recipe's `micro_batch_tokens`.

    Args:
        shape: the decoder.
        training: the stage.
        gpu: one GPU.
        gpus: how many; all are used.
        fill: share of a GPU's memory that may be used.

    Raises:
        UserError: the stage is not one for GPUs; no layout uses all of them, or none fits; says what the least would
            need.
    """
    training.compute_natively("cuda")
    tightest: Layout | None = None
    for parallel, sizes in _cuts(shape, training, gpu, gpus):
        for layout in _within(shape, training, parallel, sizes, gpu):
            if layout.memory.total <= fill * gpu.memory:
                return layout
            if tightest is None or layout.memory.total < tightest.memory.total:
                tightest = layout
    if tightest is None:
        raise UserError(
            f"a batch of {training.batch_rows} rows cannot be divided over {gpus} GPUs",
            where="--gpus",
            fix="use a number of GPUs that divides the rows of a batch, or change batch_tokens",
        )
    raise UserError(
        f"the least memory of any layout is {tightest.memory.total / 1e9:.0f} GB a GPU, and {fill:.0%} of a {gpu.name} "
        f"is {fill * gpu.memory / 1e9:.0f} GB",
        where="--gpus",
        fix="use more or larger GPUs, a shorter sequence_length, or optimiser averages of fewer bits",
    )


def _cuts(
    shape: DecoderConfiguration, training: TrainingConfiguration, gpu: Gpu, gpus: int
) -> Iterator[tuple[ParallelConfiguration, Sizes]]:
    """Every way to cut the model that the decoder, the batch and the GPUs allow, fewest cuts first."""
    powers = [1 << power for power in range(8)]
    pipelines = [size for size in range(1, _LONGEST_PIPELINE + 1) if shape.num_layers % size == 0]
    experts = [size for size in powers if size <= gpu.node] if shape.num_experts else [1]
    tensors = [size for size in powers if size <= gpu.node]
    ways = product(pipelines, powers, tensors, experts)
    for pipeline, context, tensor, expert in sorted(ways, key=lambda way: (way[0] * way[1] * way[2] * way[3], *way)):
        parallel = ParallelConfiguration(
            pipeline=pipeline,
            context=context,
            tensor=tensor,
            expert=expert,
            gather_dtype="bfloat16" if training.precision == "bfloat16" else "float32",
        )
        try:
            sizes = parallel.sizes(gpus)
            parallel.check(shape, training.sequence_length, device="cuda")
            type(training)(**{**dict(training), "parallel": parallel})
        except (UserError, ValidationError):  # Not a mistake of anyone's: this cut does not suit decoder or stage.
            continue
        if not _keeps_blocks(shape, training, tensor):
            continue
        rows, rest = divmod(training.batch_rows, sizes.data)
        if not rest and rows >= pipeline:
            yield parallel, sizes


def _keeps_blocks(shape: DecoderConfiguration, training: TrainingConfiguration, tensor: int) -> bool:
    """Whether averages of 8 bits keep whole blocks where `tensor` cuts rows, as their optimiser asks."""
    cut = [shape.num_heads * shape.head_dim, *([] if shape.num_experts else [shape.intermediate_size])]
    is_whole = tensor == 1 or not any(columns // tensor % EIGHT_BIT_BLOCK for columns in cut)
    return is_whole or training.optimiser.name != "adamw-8bit"


def _within(
    shape: DecoderConfiguration, training: TrainingConfiguration, cut: ParallelConfiguration, whole: Sizes, gpu: Gpu
) -> Iterator[Layout]:
    """One way to cut, with every checkpointing, sharding and micro-batch, cheapest first."""
    rows = training.batch_rows // whole.data
    most = training.micro_batch_rows if training.micro_batch_tokens is not None else rows
    micro = [size for size in range(min(most, rows // whole.pipeline), 0, -1) if rows % size == 0]
    # A mixture's blocks are compiled or checkpointed, not both.
    ways = _CHECKPOINTING[:1] if training.compile and shape.num_experts else _CHECKPOINTING
    for checkpointing, (stage, shard) in product(ways, _shardings(cut, whole, gpu)):
        parallel = cut.model_copy(
            update={
                "activation_checkpointing": checkpointing,
                "zero_stage": stage,
                "data_shard": shard,
                "data_replicate": whole.data // shard,
            }
        )
        sizes = parallel.sizes(whole.world)
        try:
            parallel.check_shards(shape, sizes)
        except UserError:  # As above: the same cut may suit the decoder with fewer ranks to a replica.
            continue
        for micro_rows in micro:
            memory = training_memory(shape, training, parallel, sizes, micro_rows)
            yield Layout(parallel, sizes, micro_rows, rows // micro_rows, memory)


def _shardings(cut: ParallelConfiguration, whole: Sizes, gpu: Gpu) -> Iterator[tuple[Literal[1, 3], int]]:
    """Stages and ranks that share one copy of the weights: all for stage 1; for stage 3 a node's, then more."""
    inner = whole.context * whole.tensor
    if whole.data * inner > 1:
        yield 1, whole.data
    least = min(gpu.node, whole.data * inner)
    for shard in range(1, whole.data + 1):
        if whole.data % shard == 0 and shard * inner >= least and (shard * inner) % cut.expert == 0:
            yield 3, shard
