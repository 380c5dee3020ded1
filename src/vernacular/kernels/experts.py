"""A layer of gated experts in one call, each token's result its own.

Shapes: N tokens, K experts of each token, E experts, D width, I inner width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vernacular.foundation.errors import InternalError, MachineError, UserError
from vernacular.kernels import build
from vernacular.kernels.linear import ACTIVATIONS, FORMATS, PANEL, Matrix


class PackedExperts(nn.Module):
    """`Σ gate · out · (silu(a) · b)` over the experts that a token chose, where [a; b] = in · x.

    Weights are quantised per expert, as `linear.quantise` does. No token is dropped. The sum of a token runs over its
    experts by their numbers, in float32.
    """

    in_panels: Tensor
    in_scales: Tensor | None
    out_panels: Tensor
    out_scales: Tensor | None

    def __init__(self, in_EID: Tensor, out_EDI: Tensor, format: str) -> None:
        """Pack the weights.

        Args:
            in_EID: [E, 2·I, D], the first I rows of each expert for a, the others for b.
            out_EDI: [E, D, I].
            format: float32, bfloat16, int8 or int4.
        """
        super().__init__()
        num_experts, width, inner = out_EDI.shape
        if (width % 2 or inner % 2) and format != "float32":
            raise UserError(
                f"the CPU kernels take experts of even width in {format}; these have {width} and {inner}",
                fix="choose float32, or PyTorch's own kernels with `--kernels torch`",
            )
        self.format, self.num_experts, self.width, self.inner = format, num_experts, width, inner
        # A panel of a, then the panel of b for the same 64 outputs, so that they are multiplied one after the other.
        in_E2I = torch.arange(in_EID.shape[0] * in_EID.shape[1]).view(num_experts, 2, inner)
        in_E2GP = functional.pad(in_E2I, (0, -inner % PANEL), value=-1).unflatten(2, (-1, PANEL))
        out_ED = torch.arange(num_experts * width).view(num_experts, width)
        out_N = functional.pad(out_ED, (0, -width % PANEL), value=-1).flatten()
        self._in = Matrix.pack([in_EID.flatten(0, 1)], format, in_E2GP.transpose(1, 2).flatten())
        self._out = Matrix.pack([out_EDI.flatten(0, 1)], format, out_N)
        for name, matrix in (("in", self._in), ("out", self._out)):
            self.register_buffer(f"{name}_panels", matrix.panels, persistent=False)
            self.register_buffer(f"{name}_scales", matrix.scales, persistent=False)

    def forward(self, x_ND: Tensor, experts_NK: Tensor, gates_NK: Tensor) -> Tensor:
        """Each token's sum over its experts, [N, D] in x's dtype.

        Args:
            x_ND: float32 for float32 weights, bfloat16 for all others.
            experts_NK: int64, the experts of each token.
            gates_NK: float32, the weight of each.
        """
        expected = (ACTIVATIONS[self.format], torch.int64, torch.float32)
        given = (x_ND.dtype, experts_NK.dtype, gates_NK.dtype)
        if given != expected or x_ND.shape[-1] != self.width:
            raise InternalError(f"experts of width {self.width} take {expected}; given: {given} {list(x_ND.shape)}")
        x_ND, experts_NK, gates_NK = x_ND.contiguous(), experts_NK.contiguous(), gates_NK.contiguous()
        y_ND = torch.empty_like(x_ND)
        if not len(x_ND):
            return y_ND
        failure = build.library().experts(
            FORMATS[self.format],
            self.width,
            self.inner,
            self.in_panels.data_ptr(),
            None if self.in_scales is None else self.in_scales.data_ptr(),
            self._in.units,
            self._in.group,
            self.out_panels.data_ptr(),
            None if self.out_scales is None else self.out_scales.data_ptr(),
            self._out.units,
            self._out.group,
            self.num_experts,
            x_ND.data_ptr(),
            experts_NK.data_ptr(),
            gates_NK.data_ptr(),
            len(x_ND),
            experts_NK.shape[1],
            y_ND.data_ptr(),
            torch.get_num_threads(),
        )
        if failure:
            raise MachineError("no memory for the experts' work", fix="read fewer tokens at once")
        return y_ND

    def extra_repr(self) -> str:
        """What `print(model)` says of it."""
        return f"{self.num_experts} of {self.width} → {self.inner} → {self.width}, {self.format}"
