"""Pipeline parallelism: the layers divided over stages, micro-batches flowing through them.

Each stage is the decoder with the parts of other stages taken out, under the same names, so checkpoints do not know
stages. The embedding is on the first, the final norm and the head, and so the loss, on the last
(GPipe: arXiv 1811.06965; 1F1B: arXiv 2006.09503).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.pipelining.schedules import PipelineScheduleSingle

from vernacular.foundation.errors import UserError
from vernacular.models.decoder import Decoder
from vernacular.parallel.mesh import Mesh

Read = Callable[[Decoder, Any], Tensor]
"""(decoder, part of a batch) → hidden states [B, T, D], by one call of the decoder."""
Loss = Callable[[Decoder, Tensor, Any], Tensor]
"""(decoder, hidden states, part of a batch) → what to descend, a scalar already divided by the step's weight."""

_SCHEDULES: dict[str, type[PipelineScheduleSingle]] = {"1f1b": Schedule1F1B, "gpipe": ScheduleGPipe}


def cut_stage(decoder: Decoder, mesh: Mesh) -> None:
    """Take out of `decoder` what other stages hold, in place; the layers that stay keep their names."""
    stages = mesh.sizes.pipeline
    if stages == 1:
        return
    per_stage = len(decoder.blocks) // stages
    first = mesh.place("pipeline") * per_stage
    for layer in range(len(decoder.blocks)):
        if not first <= layer < first + per_stage:
            decoder.blocks[layer] = _Elsewhere()
    if not mesh.is_first_stage:
        decoder.embedding = _Elsewhere()  # type: ignore[assignment]
    if not mesh.is_last_stage:
        decoder.final_norm = _Elsewhere()
        decoder.head = _Elsewhere()  # type: ignore[assignment]


def with_loss(hidden_BTD: Tensor, loss: Tensor) -> Tensor:
    """The same hidden states; their backward pass also descends `loss`, a scalar of this stage's own layers.

    For what a stage before the last adds to the loss, such as the load balance of its routers.
    """
    return _WithLoss.apply(hidden_BTD, loss)


class _WithLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_BTD: Tensor, loss: Tensor) -> Tensor:
        ctx.like = torch.ones_like(loss)
        return hidden_BTD.view_as(hidden_BTD)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], ctx.like


class _Elsewhere(nn.Identity):
    """A part of the decoder that another stage holds; what comes in goes on."""

    def forward(self, x_BTD: Tensor, *arguments: Any) -> Tensor:
        return x_BTD


class Pipeline:
    """Runs a step's micro-batches through the stages.

    Args:
        decoder: this rank's stage, cut and spread.
        mesh: whose `pipeline` ranks are the stages, in order.
        schedule: `1f1b` or `gpipe`.
        residual_split: how many tensor ranks the residual stream between stages is divided over.
        before_backward: told before each micro-batch's backward pass on this stage whether it is the step's last.
    """

    def __init__(
        self,
        decoder: Decoder,
        mesh: Mesh,
        schedule: str,
        residual_split: int,
        before_backward: Callable[[bool], None],
    ) -> None:
        self._mesh, self._schedule, self._split = mesh, schedule, residual_split
        self._before_backward = before_backward
        self._stage = _Stage(decoder, is_first=mesh.is_first_stage, is_last=mesh.is_last_stage)
        self._schedules: dict[tuple[Any, ...], PipelineScheduleSingle] = {}

    def run(self, parts: Sequence[Any], read: Read, loss: Loss, *, backward: bool) -> list[float]:
        """Each micro-batch's loss, on the last stage; on the others zeros. With `backward`, gradients are added up.

        Raises:
            UserError: fewer micro-batches than stages.
        """
        if len(parts) < self._mesh.sizes.pipeline:
            raise UserError(
                f"a step of {len(parts)} micro-batches cannot fill a pipeline of {self._mesh.sizes.pipeline} stages",
                where="parallel.pipeline",
                fix="lower micro_batch_tokens, or pipeline",
            )
        self._stage.parts, self._stage.read, self._stage.loss = parts, read, loss
        schedule = self._schedule_for(parts)
        numbers = torch.arange(len(parts))
        losses: list[Tensor] = []
        run = schedule.step if backward else schedule.eval
        arguments = (numbers,) if self._mesh.is_first_stage else ()
        target = numbers if self._mesh.is_last_stage else None
        with torch.set_grad_enabled(backward):
            run(*arguments, number=numbers, target=target, losses=losses, return_outputs=False)
        self._stage.parts = ()
        return [float(value.detach()) for value in losses] if losses else [0.0] * len(parts)

    def _schedule_for(self, parts: Sequence[Any]) -> PipelineScheduleSingle:
        rows, length = parts[0].ids_BT.shape
        key = (len(parts), rows, length)
        if key not in self._schedules:
            shape = (rows, length // self._split, self._stage.width)
            between = torch.empty(shape, dtype=self._stage.dtype, device="meta").requires_grad_()
            number, loss = torch.empty(1, dtype=torch.int64, device="meta"), torch.empty((), device="meta")
            stage = _ScheduledStage(
                self._before_backward,
                self._stage,
                self._mesh.place("pipeline"),
                self._mesh.sizes.pipeline,
                self._mesh.device,
                input_args=(number if self._mesh.is_first_stage else between,),
                output_args=(loss if self._mesh.is_last_stage else between,),
                group=self._mesh.cut("rows", "pipeline").get_group(),
            )
            kind = _SCHEDULES[self._schedule]
            self._schedules[key] = kind(stage, len(parts), loss_fn=lambda value, number: value, scale_grads=False)
        return self._schedules[key]


class _ScheduledStage(PipelineStage):
    """Says before each backward pass whether it is the last; PyTorch's own tells sharded modules, none around one."""

    def __init__(self, before_backward: Callable[[bool], None], *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._before_backward = before_backward

    def backward_one_chunk(
        self, bwd_chunk_id: int, loss: Any = None, full_backward: bool = True, last_backward: bool = False
    ) -> None:
        """One micro-batch's backward pass."""
        self._before_backward(last_backward)
        super().backward_one_chunk(bwd_chunk_id, loss, full_backward, last_backward)


class _Stage(nn.Module):
    """One stage's part of a micro-batch's pass; on the last one through to the loss."""

    def __init__(self, decoder: Decoder, *, is_first: bool, is_last: bool) -> None:
        super().__init__()
        self.decoder, self.is_first, self.is_last = decoder, is_first, is_last
        self.width = decoder.configuration.hidden_size
        # The residual stream has the weights' own precision, under autocast too.
        self.dtype = next(decoder.parameters()).dtype
        self.parts: Sequence[Any] = ()
        self.read: Read | None = None
        self.loss: Loss | None = None

    def forward(self, received: Tensor, number: Tensor) -> Tensor:
        assert self.read is not None
        assert self.loss is not None
        part = self.parts[int(number)]
        if not self.is_first:
            # The decoder is asked to read tokens as ever; what it reads has come from the stage before.
            self.decoder.embed = lambda ids_BT: received  # type: ignore[method-assign]
        hidden_BTD = self.read(self.decoder, part)
        return self.loss(self.decoder, hidden_BTD, part) if self.is_last else hidden_BTD
