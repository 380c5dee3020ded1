"""Expert parallelism: each rank holds some experts, and tokens travel to those chosen for them and back.

Nothing is dropped: every rank sends exactly the rows that were chosen, whatever the balance (two all-to-alls). The
answers return to the token's own rank and are weighted and added there, in the same order as on one device.

Shapes: N own tokens, K experts of a token, M = N·K rows to send, R rows received, E experts, D hidden, P ranks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from vernacular.models.decoder import Decoder
from vernacular.models.feed_forward import Experts
from vernacular.parallel.mesh import Mesh


class OwnExperts(Experts):
    """Experts of which this rank holds a part: their weights are known as a whole, computation sees that part alone."""

    def forward(self, x_ND: Tensor, chosen_NK: Tensor, gates_NK: Tensor) -> Tensor:
        """As `Experts`, of experts counted from this rank's first."""
        own = Experts.__new__(Experts)
        own.__dict__.update(self.__dict__, **{name: _own(weight) for name, weight in self._parameters.items()})
        return Experts.forward(own, x_ND, chosen_NK, gates_NK)


class _Sent(NamedTuple):
    """What is needed to bring the answers home."""

    order_M: Tensor
    gates_NK: Tensor
    splits_P: list[int]
    received_P: list[int]


class _Exchange:
    """The journey there and back, around one layer's experts."""

    def __init__(self, group: ProcessGroup, num_experts: int) -> None:
        self._group, self._num_experts = group, num_experts
        self._sent: _Sent | None = None

    def there(self, experts: nn.Module, arguments: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Own tokens and what was chosen for them → the rows that chose this rank's experts, one expert each."""
        x_ND, chosen_NK, gates_NK = arguments
        ranks, per_rank = self._group.size(), self._num_experts // self._group.size()
        order_M = chosen_NK.flatten().argsort(stable=True)
        counts_E = chosen_NK.flatten().bincount(minlength=self._num_experts)
        # How many rows of each rank are for each of this rank's experts.
        coming_PE = _exchange(counts_E, None, None, self._group).view(ranks, per_rank)
        splits_P = counts_E.view(ranks, per_rank).sum(dim=1).tolist()
        received_P = coming_PE.sum(dim=1).tolist()
        rows_MD = x_ND[order_M // chosen_NK.shape[1]]
        rows_RD = _exchange(rows_MD, received_P, splits_P, self._group)
        expert_R = torch.arange(per_rank, device=x_ND.device).repeat(ranks).repeat_interleave(coming_PE.flatten())
        if not len(rows_RD):
            # A row of zeros, dropped again below: this rank's experts must take part in the backward pass.
            rows_RD, expert_R = torch.cat((rows_RD, x_ND.new_zeros(1, x_ND.shape[1]))), expert_R.new_zeros(1)
        self._sent = _Sent(order_M, gates_NK, splits_P, received_P)
        return rows_RD, expert_R[:, None], torch.ones_like(expert_R, dtype=gates_NK.dtype)[:, None]

    def back(self, experts: nn.Module, arguments: tuple[Tensor, ...], answers_RD: Tensor) -> Tensor:
        """The answers of this rank's experts → the weighted answers to own tokens, [N, D]."""
        sent, self._sent = self._sent, None
        assert sent is not None
        answers_RD = answers_RD[: sum(sent.received_P)] + 0 * answers_RD[sum(sent.received_P) :].sum()
        answers_MD = _exchange(answers_RD, sent.splits_P, sent.received_P, self._group)
        answers_NKD = answers_MD[sent.order_M.argsort()].unflatten(0, sent.gates_NK.shape)
        return (answers_NKD * sent.gates_NK[..., None].to(answers_NKD.dtype)).sum(dim=1)


def apply_experts(decoder: Decoder, mesh: Mesh) -> None:
    """Divide every layer's experts over the expert ranks, in place."""
    if mesh.expert == 1:
        return
    ranks = mesh.cut("experts", "expert")
    for experts in decoder.modules():
        if not isinstance(experts, Experts):
            continue
        exchange = _Exchange(ranks.get_group(), experts.input.shape[0])
        for name, weight in list(experts.named_parameters(recurse=False)):
            divided = distribute_tensor(weight.detach(), ranks, [Shard(0)], src_data_rank=None)
            experts.register_parameter(name, nn.Parameter(divided, requires_grad=weight.requires_grad))
        experts.__class__ = OwnExperts
        # Not compiled: how many rows go where is another number in every pass.
        experts.register_forward_pre_hook(torch.compiler.disable(exchange.there))
        experts.register_forward_hook(torch.compiler.disable(exchange.back))


def _exchange(rows: Tensor, receive: list[int] | None, send: list[int] | None, group: ProcessGroup) -> Tensor:
    return all_to_all_single_autograd(rows.contiguous(), receive, send, group)


def _own(weight: Tensor | None) -> Tensor:
    assert weight is not None
    return weight.to_local() if isinstance(weight, DTensor) else weight
