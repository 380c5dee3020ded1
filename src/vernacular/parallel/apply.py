"""The one place where a decoder is spread over devices, in the one order in which the ways compose.

    pipeline                    which layers are this rank's at all
      tensor + sequence           heads and columns of every product; tokens of everything between
      expert                      which experts are this rank's
      float8                      what the remaining products are computed in
      activation checkpointing    what each block keeps for its backward pass
      compile                     each block, with what it recomputes
      shard (FSDP2, HSDP)         weights, gradients and optimiser state over the ranks that read other data
      wide gradients              of bfloat16 weights, in float32
    context                     keys and values of the parts of the rows that other ranks read

The decoder learns of none of it: weights become `DTensor`s, passes get hooks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from vernacular.models.decoder import Decoder
from vernacular.models.feed_forward import Experts
from vernacular.parallel.activation import apply_checkpointing
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.parallel.context import apply_context
from vernacular.parallel.experts import apply_experts
from vernacular.parallel.fill import give_storage
from vernacular.parallel.float8 import apply_float8
from vernacular.parallel.gradients import clip_gradients
from vernacular.parallel.mesh import Mesh
from vernacular.parallel.pipeline import Loss, Pipeline, Read, cut_stage
from vernacular.parallel.shard import apply_shards, let_go, set_last_micro_batch
from vernacular.parallel.tensor import apply_tensor
from vernacular.parallel.wide_gradients import is_narrow, widen_gradients


def spread(
    decoder: Decoder,
    configuration: ParallelConfiguration,
    mesh: Mesh,
    *,
    sequence_length: int,
    compile: bool = False,
) -> Spread:
    """Spread `decoder` over the mesh, in place; build the optimiser afterwards.

    Args:
        decoder: with the same weights on every rank, on `mesh.device`; or on the meta device, and then each rank is
            given storage for its own part alone, for `fill`.
        configuration: the one that `mesh` was opened with.
        mesh: whose ranks all call this.
        sequence_length: tokens in a row.
        compile: torch.compile each block.

    Raises:
        UserError: the model cannot be spread like that; names the setting.
    """
    configuration.check(decoder.configuration, sequence_length, device=mesh.device.type, compile=compile)
    configuration.check_shards(decoder.configuration, mesh.sizes)
    cut_stage(decoder, mesh)
    apply_tensor(decoder, mesh, sequence_parallel=configuration.sequence_parallel)
    apply_experts(decoder, mesh)
    if configuration.float8:
        apply_float8(decoder)
    apply_checkpointing(decoder, configuration.activation_checkpointing)
    if compile:
        # The law: a block that fits no program compiled so far ends the run, rather than go on uncompiled.
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        torch._dynamo.reset()  # the programs of a stage before would count against the limit of this one
        if mesh.device.type == "cpu":
            _leave_out_experts(decoder)
        for block in decoder.blocks:
            block.forward = torch.compile(block.forward)
    apply_shards(decoder, mesh, configuration)
    give_storage(decoder, mesh.device)
    if is_narrow(decoder):
        widen_gradients(decoder)
    apply_context(decoder, mesh)
    return Spread(decoder, configuration, mesh)


def _leave_out_experts(decoder: Decoder) -> None:
    """A CPU multiplies them one by one: their numbers of rows, others in every pass, would be constants of programs."""
    layers = [module for module in decoder.modules() if isinstance(module, Experts)]
    if layers:
        # One function for all: with one for each layer, each would be compiled anew.
        answer = torch.compiler.disable(layers[0].answer)
        for experts in layers:
            experts.answer = answer


class Spread:
    """A decoder spread over a mesh, and how a step is run on it. One process is a mesh of one.

    Attributes:
        decoder: this rank's part; called as ever, with the rank's own share of the rows.
        mesh: the ranks.
    """

    def __init__(self, decoder: Decoder, configuration: ParallelConfiguration, mesh: Mesh) -> None:
        self.decoder, self.mesh, self._configuration = decoder, mesh, configuration
        self._pipeline: Pipeline | None = None
        if mesh.sizes.pipeline > 1:
            split = mesh.sizes.tensor if configuration.sequence_parallel else 1
            self._pipeline = Pipeline(decoder, mesh, configuration.schedule, split, self._before_backward)

    def learn(self, parts: Sequence[Any], read: Read, loss: Loss) -> list[float]:
        """Add up the gradients of a step's micro-batches; returns this rank's share of each one's loss.

        Args:
            parts: the micro-batches, each as `share` returns it and all of one shape; as many on every rank.
            read: runs the decoder on a part.
            loss: scores what it returned; divides by the weight of the whole step over all ranks (`Mesh.total`).
        """
        if self._pipeline is not None:
            return self._pipeline.run(parts, read, loss, backward=True)
        values = []
        for number, part in enumerate(parts):
            self._before_backward(number == len(parts) - 1)
            value = loss(self.decoder, read(self.decoder, part), part)
            value.backward()
            values.append(float(value.detach()))
        return values

    def score(self, parts: Sequence[Any], read: Read, loss: Loss) -> list[float]:
        """As `learn`, without gradients."""
        if self._pipeline is not None:
            values = self._pipeline.run(parts, read, loss, backward=False)
        else:
            with torch.no_grad():
                values = [float(loss(self.decoder, read(self.decoder, part), part)) for part in parts]
        let_go(self.decoder)
        return values

    def clip(self, largest: float | None) -> float:
        """Bound the norm of the whole model's gradient; returns the norm it had, the same on every rank."""
        return clip_gradients(self.decoder.parameters(), self.mesh, math.inf if largest is None else largest)

    def _before_backward(self, is_last: bool) -> None:
        set_last_micro_batch(self.decoder, self._configuration, is_last=is_last)
