"""A gated feed-forward over packed weights, on a CPU."""

from __future__ import annotations

from torch import Tensor, nn

from vernacular.kernels.linear import PackedGates, PackedLinear


class PackedGatedFeedForward(nn.Module):
    """`down(silu(gate x) · up x)`.

    Args:
        gate_ID: weight of the gate.
        up_ID: weight of what it lets through.
        down_DI: weight back to the residual stream.
        format: of the panels.
    """

    def __init__(self, gate_ID: Tensor, up_ID: Tensor, down_DI: Tensor, format: str) -> None:
        super().__init__()
        self.gates = PackedGates(gate_ID, up_ID, format)
        self.down = PackedLinear(down_DI, format)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Each token's own update, [B, T, D]."""
        y_BTD: Tensor = self.down(self.gates(x_BTD))
        return y_BTD
