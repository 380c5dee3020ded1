"""What happens to single rows between the products, on a CPU: norms, and rotation by position.

Each is one call where PyTorch needs several, which matters where a row is all there is: a step of one token makes some
hundred of them. A row's result depends on that row alone.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn

from vernacular.kernels import build


class NormArgument(ctypes.Structure):
    """`struct norm` of block.c: a weight of float32, an epsilon, and whether the mean is taken off."""

    _fields_ = (("weight", ctypes.c_void_p), ("epsilon", ctypes.c_float), ("centred", ctypes.c_int))


class PackedNorm(nn.Module):
    """`x / sqrt(mean(x²) + ε) · weight`, of x less its mean where `centred`; sums in float32."""

    def __init__(self, weight: Tensor, epsilon: float, *, centred: bool) -> None:
        super().__init__()
        # In float32 whatever the rows are in: the same numbers, and the kernel's one form.
        wide = weight.detach().float().contiguous()
        self.register_buffer("weight", wide, persistent=False)
        is_bfloat = weight.dtype is torch.bfloat16
        self._arguments = (is_bfloat, is_bfloat, centred)
        self._width, self._epsilon = len(weight), epsilon
        self.argument = NormArgument(wide.data_ptr(), epsilon, centred)

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
            None,
            None,
            x.numel() // self._width,
            self._width,
            self._epsilon,
            torch.get_num_threads(),
        )
        return y


def rotate(x_NHC: Tensor, cosine_B1TC: Tensor, sine_B1TC: Tensor) -> None:
    """As `RotaryPosition.rotate`, in place.

    Args:
        x_NHC: the heads of N = B · T tokens, those of a token side by side in memory.
        cosine_B1TC: from `RotaryPosition.angles`, in x's dtype.
        sine_B1TC: alike.
    """
    num_tokens, num_heads, width = x_NHC.shape
    is_bfloat = x_NHC.dtype is torch.bfloat16
    build.library().rotate_rows(
        is_bfloat,
        is_bfloat,
        x_NHC.data_ptr(),
        x_NHC.stride(0),
        x_NHC.data_ptr(),
        x_NHC.stride(0),
        cosine_B1TC.data_ptr(),
        sine_B1TC.data_ptr(),
        1.0,
        num_tokens,
        num_heads,
        width,
        torch.get_num_threads(),
    )
