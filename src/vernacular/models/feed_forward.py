"""The feed-forward: each token's own update, by one network or by a few of many experts.

Shapes: B batch, T tokens, N = B·T tokens in one row, D hidden, I inner width, E experts, K experts of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vernacular.models.attention import FanOut
from vernacular.models.configuration import Activation, DecoderConfiguration

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


def gated(activation: Callable[[Tensor], Tensor], gate: Tensor, up: Tensor) -> Tensor:
    """`act(gate) · up`."""
    return activation(gate) * up


class Gate(nn.Module):
    """`act(gate) · up`."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.name = activation
        self.multiply: Callable[[Tensor, Tensor], Tensor] = partial(gated, ACTIVATIONS[activation])

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """The product, of the same shape as both."""
        return self.multiply(gate, up)


class GatedFeedForward(nn.Module):
    """`down(act(gate x) · up x)` (arXiv 2002.05202)."""

    def __init__(self, configuration: DecoderConfiguration) -> None:
        super().__init__()
        width, inner = configuration.hidden_size, configuration.intermediate_size
        self.gate = Gate(configuration.activation)
        self.project = FanOut(width, (("gate", inner), ("up", inner)))
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Each token's own update, [B, T, D]."""
        gate_BTI, up_BTI = self.project(x_BTD)
        return self.down(self.gate(gate_BTI, up_BTI))


class PlainFeedForward(nn.Module):
    """`down(act(up x))`."""

    def __init__(self, configuration: DecoderConfiguration) -> None:
        super().__init__()
        width, inner = configuration.hidden_size, configuration.intermediate_size
        self.activation = ACTIVATIONS[configuration.activation]
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Each token's own update, [B, T, D]."""
        return self.down(self.activation(self.up(x_BTD)))


Answer = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""The experts' arithmetic: of x [N, D], in [E, 2·I, D], out [E, D, I], chosen [N, K] and gates [N, K]."""


def answer(
    activation: Callable[[Tensor], Tensor],
    x_ND: Tensor,
    input_EOD: Tensor,
    output_EDI: Tensor,
    chosen_NK: Tensor,
    gates_NK: Tensor,
) -> Tensor:
    """The chosen experts' answers weighted by their gates, [N, D].

    A gate enters at the inner width, which is the narrowest place, so its gradient needs no answer kept.
    """
    order_M, tokens_M, places_NK, ends_E = routes(chosen_NK, len(input_EOD))
    gate_MI, up_MI = grouped_product(_Spread.apply(x_ND, tokens_M, places_NK), input_EOD, ends_E).chunk(2, dim=-1)
    gates_M1 = _Spread.apply(gates_NK.flatten()[:, None], order_M, places_NK.view(-1, 1)).to(gate_MI.dtype)
    answers_MD = grouped_product(activation(gate_MI) * up_MI * gates_M1, output_EDI, ends_E)
    gathered_ND: Tensor = _Gather.apply(answers_MD, tokens_M, places_NK)
    return gathered_ND


def _routes(chosen_NK: Tensor, num_experts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # Two bytes an expert: a GPU sorts by as many passes as there are bytes.
    sorted_M, order_M = chosen_NK.flatten().to(torch.int16).sort(stable=True)
    experts_E = torch.arange(num_experts, dtype=torch.int16, device=sorted_M.device)
    ends_E = torch.searchsorted(sorted_M, experts_E, right=True, out_int32=True)
    numbers_M = torch.arange(len(order_M), dtype=torch.int32, device=order_M.device)
    places_M = torch.empty_like(numbers_M).scatter_(0, order_M, numbers_M)
    order_M = order_M.to(torch.int32)
    return order_M, order_M // chosen_NK.shape[1], places_M.view_as(chosen_NK), ends_E


# To the compiler an operation without insides: it would work out each index again for every number that is moved.
routes = torch.library.custom_op(
    "vernacular::routes",
    _routes,
    mutates_args=(),
    schema="(Tensor chosen, int num_experts) -> (Tensor, Tensor, Tensor, Tensor)",
)
"""Of each token's experts [N, K]: M = N·K rows, those of one expert together.

Returns int32 tensors: which of the N·K choices each row is, [M]; its token, [M]; the row of each choice, [N, K]; the
place after each expert's last row, [E].
"""


@routes.register_fake
def _(chosen_NK: Tensor, num_experts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    places_NK = torch.empty_like(chosen_NK, dtype=torch.int32)
    rows_M = places_NK.flatten()
    return rows_M, torch.empty_like(rows_M), places_NK, rows_M.new_empty(num_experts)


class _Spread(torch.autograd.Function):
    """`x[tokens]`: a row for each of a token's experts. The gradient sums known places, in an order of no chance."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, tokens_M: Tensor, places_NK: Tensor) -> Tensor:
        ctx.save_for_backward(places_NK)
        return x_ND[tokens_M]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (places_NK,) = ctx.saved_tensors
        return _sum_rows(gradients[0], places_NK), None, None


class _Gather(torch.autograd.Function):
    """The sum of each token's rows: `_Spread` the other way."""

    @staticmethod
    def forward(ctx: Any, rows_MD: Tensor, tokens_M: Tensor, places_NK: Tensor) -> Tensor:
        ctx.save_for_backward(tokens_M)
        return _sum_rows(rows_MD, places_NK)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (tokens_M,) = ctx.saved_tensors
        return gradients[0][tokens_M], None, None


def _sum_rows(rows_MD: Tensor, places_NK: Tensor) -> Tensor:
    """Each token's rows added up in float32 and in their order, so that its sum does not depend on who else is there.

    Row by row, which a compiler makes one pass of; as one sum over [N, K, D] it was five times slower on a GPU.
    """
    first, *others = places_NK.unbind(dim=1)
    total_ND = rows_MD[first].float()
    for places_N in others:
        total_ND = total_ND + rows_MD[places_N]
    return total_ND.to(rows_MD.dtype)


class Experts(nn.Module):
    """Gated feed-forwards side by side: `out_e(act(a) · b)`, where `[a; b] = in_e x`; the first half is the gate."""

    def __init__(self, configuration: DecoderConfiguration) -> None:
        super().__init__()
        assert configuration.num_experts is not None
        experts, width, inner = configuration.num_experts, configuration.hidden_size, configuration.intermediate_size
        self.activation = ACTIVATIONS[configuration.activation]
        self.answer: Answer = partial(answer, self.activation)
        self.input = nn.Parameter(torch.empty(experts, 2 * inner, width))
        self.output = nn.Parameter(torch.empty(experts, width, inner))

    def forward(self, x_ND: Tensor, chosen_NK: Tensor, gates_NK: Tensor) -> Tensor:
        """The chosen experts' answers weighted by their gates, [N, D]. No token is dropped, whatever the balance.

        Args:
            x_ND: tokens.
            chosen_NK: each token's experts, int64.
            gates_NK: their weights.
        """
        return self.answer(x_ND, self.input, self.output, chosen_NK, gates_NK)


class ExpertFeedForward(nn.Module):
    """A router and its experts: softmax in float32 over the best-scored few, and over those only (Granite 3.0)."""

    def __init__(self, configuration: DecoderConfiguration) -> None:
        super().__init__()
        assert configuration.num_experts is not None
        assert configuration.experts_per_token is not None
        self.experts_per_token = configuration.experts_per_token
        self.router = nn.Linear(configuration.hidden_size, configuration.num_experts, bias=False)
        self.experts = Experts(configuration)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Each token's own update, [B, T, D]."""
        x_ND = _for_products(x_BTD.flatten(0, -2))
        best_NK, chosen_NK = self.router(x_ND).float().topk(self.experts_per_token, dim=-1)
        return self.experts(x_ND, chosen_NK, best_NK.softmax(dim=-1)).view_as(x_BTD)


def grouped_product(x_MI: Tensor, weights_EOI: Tensor, ends_E: Tensor) -> Tensor:
    """Multiply consecutive groups of rows, each with its own matrix, transposed: [M, O].

    Args:
        x_MI: the rows.
        weights_EOI: a matrix for each group.
        ends_E: int32, the place after each group's last row.
    """
    x_MI, weights_EOI = _for_products(x_MI), _for_products(weights_EOI)
    if x_MI.is_cuda and x_MI.dtype == torch.bfloat16:
        return functional.grouped_mm(x_MI, weights_EOI.transpose(-2, -1), offs=ends_E)
    # On a CPU PyTorch's grouped product is slower than this loop (docs/LOG.md).
    groups = x_MI.split(ends_E.diff(prepend=ends_E.new_zeros(1)).tolist())
    return torch.cat([rows @ weights_EOI[expert].t() for expert, rows in enumerate(groups) if len(rows)])


def _for_products(x: Tensor) -> Tensor:
    """In autocast's precision on a GPU, where it is on: it knows plain products, and not those of groups."""
    return x.to(torch.get_autocast_dtype("cuda")) if x.is_cuda and torch.is_autocast_enabled("cuda") else x


FEED_FORWARDS = {"gated": GatedFeedForward, "plain": PlainFeedForward, "experts": ExpertFeedForward}
