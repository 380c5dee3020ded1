"""What happens to single rows between the products, on a CPU: norms, rotation by position, the gate of a feed-forward.

Each is one call where PyTorch needs several, which matters where a row is all there is: a step of one token makes some
hundred of them. A row's result depends on that row alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vernacular.kernels import build


class PackedNorm(nn.Module):
    """`x / sqrt(mean(x²) + ε) · weight`, of x less its mean where `centred`; sums in float32."""

    def __init__(self, weight: Tensor, epsilon: float, *, centred: bool) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().contiguous(), persistent=False)
        self._arguments = (weight.dtype is torch.bfloat16, centred)
        self._width, self._epsilon = len(weight), epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each row of [..., width]."""
        x = x.contiguous()
        y = torch.empty_like(x)
        weight: Tensor = self.weight  # type: ignore[assignment]
        build.library().norm_rows(
            *self._arguments,
            x.data_ptr(),
            weight.data_ptr(),
            y.data_ptr(),
            x.numel() // self._width,
            self._width,
            self._epsilon,
            torch.get_num_threads(),
        )
        return y


def rotate(x_1HNC: Tensor, cosine_11NC: Tensor, sine_11NC: Tensor) -> Tensor:
    """As `RotaryPosition.rotate`, in place where the heads of a token stand side by side in memory."""
    x_NHC = x_1HNC[0].transpose(0, 1)
    if x_NHC.stride(2) != 1 or x_NHC.stride(1) != x_NHC.shape[2]:
        x_NHC = x_NHC.contiguous()
    num_tokens, num_heads, width = x_NHC.shape
    build.library().rotate_rows(
        x_NHC.dtype is torch.bfloat16,
        x_NHC.data_ptr(),
        x_NHC.stride(0),
        cosine_11NC.data_ptr(),
        sine_11NC.data_ptr(),
        num_tokens,
        num_heads,
        width,
        torch.get_num_threads(),
    )
    return x_NHC.transpose(0, 1)[None]


class PackedGate(nn.Module):
    """`silu(gate) · up`."""

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Of [..., width]; the rows of both the same distance apart, as those of one product are."""
        y = gate.new_empty(gate.shape)
        build.library().gate_rows(
            gate.dtype is torch.bfloat16,
            gate.data_ptr(),
            up.data_ptr(),
            gate.stride(-2),
            y.data_ptr(),
            y.numel() // y.shape[-1],
            y.shape[-1],
            torch.get_num_threads(),
        )
        return y
