"""The feed-forward: each token's own update, by one network or by a few of many experts.

Shapes: B batch, T tokens, N = B·T tokens in one row, D hidden, I inner width, E experts, K experts of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

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
    """The chosen experts' answers weighted by their gates, [N, D]."""
    num_experts, per_token = input_EOD.shape[0], chosen_NK.shape[1]
    # M = N·K rows, those of one expert together.
    order_M = chosen_NK.flatten().argsort(stable=True)
    # Added up rather than `bincount`, which asks a GPU for the largest number first.
    counts_E = chosen_NK.new_zeros(num_experts).index_add_(0, chosen_NK.flatten(), torch.ones_like(chosen_NK).flatten())
    gate_MI, up_MI = grouped_product(x_ND[order_M // per_token], input_EOD, counts_E).chunk(2, dim=-1)
    answers_MD = grouped_product(activation(gate_MI) * up_MI, output_EDI, counts_E)
    # Back in the tokens' order, so that a token's sum does not depend on who else is there.
    answers_NKD = answers_MD[order_M.argsort()].unflatten(0, (-1, per_token))
    return (answers_NKD * gates_NK[..., None].to(answers_NKD.dtype)).sum(dim=1)


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
        x_ND = x_BTD.flatten(0, -2)
        best_NK, chosen_NK = self.router(x_ND).float().topk(self.experts_per_token, dim=-1)
        return self.experts(x_ND, chosen_NK, best_NK.softmax(dim=-1)).view_as(x_BTD)


def grouped_product(x_MI: Tensor, weights_EOI: Tensor, counts_E: Tensor) -> Tensor:
    """Multiply consecutive groups of rows, `counts_E` long, each with its own matrix, transposed: [M, O]."""
    if x_MI.is_cuda and torch.is_autocast_enabled("cuda"):
        # Autocast knows plain products; to this one its dtype must be given.
        dtype = torch.get_autocast_dtype("cuda")
        x_MI, weights_EOI = x_MI.to(dtype), weights_EOI.to(dtype)
    if x_MI.is_cuda and x_MI.dtype == torch.bfloat16:
        ends_E = counts_E.cumsum(0, dtype=torch.int32)
        return functional.grouped_mm(x_MI, weights_EOI.transpose(-2, -1), offs=ends_E)
    # On a CPU PyTorch's grouped product is slower than this loop (docs/LOG.md).
    groups = x_MI.split(counts_E.tolist())
    products = [rows @ weights_EOI[expert].t() for expert, rows in enumerate(groups) if len(rows)]
    return torch.cat(products)


FEED_FORWARDS = {"gated": GatedFeedForward, "plain": PlainFeedForward, "experts": ExpertFeedForward}
