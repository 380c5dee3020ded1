"""Linear layers whose weights lie in panels of 64 columns, in float32, bfloat16, 8 or 4 bits.

Each output is summed over the inputs in an order that depends on nothing but the weight's shape and format, so a row's
result is the same bits whatever rows are multiplied with it, and on however many threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vernacular.foundation.errors import InternalError, unknown_name
from vernacular.kernels import build, memory

PANEL = 64
FORMATS = {"float32": 0, "bfloat16": 1, "int8": 2, "int4": 3}
ACTIVATIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.bfloat16, "int4": torch.bfloat16}
QUANTISED = ("int8", "int4")
STORE, ADD, GATE = range(3)
"""What becomes of a product, as `enum finish` of linear.h names it."""
_PACKING = {"float32": 1, "bfloat16": 1, "int8": 2, "int4": 4}


def group_size(width: int) -> int:
    """Inputs that share a scale: 128, or 64 or 32 where only they divide the width (32 also where none does)."""
    return next((size for size in (128, 64) if width % size == 0), 32)


@dataclass(frozen=True)
class Quantised:
    """Integers and their scales: weight ≈ integers · scales.

    Attributes:
        integers_NK: int8; within ±127 for int8, within -8 … 7 for int4. K is padded with zeros to whole groups.
        scales: float32; int8: [N], int4: [N, K / group].
    """

    integers_NK: Tensor
    scales: Tensor


def quantise(weight_NK: Tensor, format: str) -> Quantised:
    """Nearest integers under a scale per output (int8) or per output and group of inputs (int4).

    The 8-bit scale takes the largest magnitude to 127; the 4-bit scale takes it to -8, whatever its sign, so that all
    sixteen values are used.
    """
    width = weight_NK.shape[1]
    group = group_size(width)
    weight_NK = functional.pad(weight_NK.detach().float(), (0, -width % group))
    if format == "int8":
        scales_N1 = weight_NK.abs().amax(dim=1, keepdim=True) / 127
        integers_NK = (weight_NK / scales_N1.clamp_min(torch.finfo(torch.float32).tiny)).round_()
        return Quantised(integers_NK.to(torch.int8), scales_N1[:, 0])
    groups_NGK = weight_NK.view(len(weight_NK), -1, group)
    extreme_NG1 = groups_NGK.gather(2, groups_NGK.abs().argmax(dim=2, keepdim=True))
    inverse_NG1 = torch.where(extreme_NG1 == 0, 0.0, -8 / extreme_NG1)
    integers_NGK = (groups_NGK * inverse_NG1).round_().clamp_(-8, 7)
    return Quantised(integers_NGK.to(torch.int8).view_as(weight_NK), (extreme_NG1 / -8)[:, :, 0].contiguous())


class MatrixArgument(ctypes.Structure):
    """`struct matrix` of panel.h."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("format", "columns", "width", "units", "group")),
        *((name, ctypes.c_void_p) for name in ("panels", "scales")),
    )


@dataclass(frozen=True)
class Matrix:
    """A weight [N, K] in panels.

    Attributes:
        columns: N.
        width: K.
        units: K in units of 4 bytes of activations, padded as the format needs.
        group: units that share a scale (int8 and int4).
        panels: the weights, uint8.
        scales: float32, or None.
    """

    format: str
    columns: int
    width: int
    units: int
    group: int
    panels: Tensor
    scales: Tensor | None

    @classmethod
    def pack(cls, weights: Sequence[Tensor], format: str, order_N: Tensor | None = None) -> Matrix:
        """Quantise where the format asks for it, and lay out in panels; each weight is read where it lies.

        Args:
            weights: [N, K] each, one below the other.
            format: of the panels.
            order_N: int64, the row of each column, negative for a column of zeros; by default as they stand.
        """
        if format not in FORMATS:
            raise unknown_name("format of weights", format, FORMATS)
        width = weights[0].shape[1]
        scales = None
        if format in QUANTISED:
            quantised = [quantise(weight, format) for weight in weights]
            rows = [part.integers_NK for part in quantised]
            scales = torch.cat([part.scales for part in quantised])
        else:
            rows = [weight.detach().to(ACTIVATIONS[format]).contiguous() for weight in weights]
        addresses_N = torch.cat([_row_addresses(part) for part in rows])
        if order_N is not None:
            addresses_N = addresses_N[order_N].masked_fill_(order_N < 0, 0)
            scales = None if scales is None else scales[order_N]  # whatever a column of zeros is scaled by
        columns = len(addresses_N)
        num_panels = -(-columns // PANEL)
        units = width if format == "float32" else -(-rows[0].shape[1] // 2)
        panels = memory.take(num_panels * PANEL * units * 4 // _PACKING[format])
        build.library().pack(
            FORMATS[format],
            columns,
            units,
            addresses_N.data_ptr(),
            rows[0].shape[1],
            panels.data_ptr(),
            torch.get_num_threads(),
        )
        group = group_size(width) // 2 if format in QUANTISED else 0
        scales = None if scales is None else _panel_scales(scales, num_panels)
        return cls(format, columns, width, units, group, panels, scales)

    @property
    def fixed_words(self) -> int:
        """Words of 4 bytes that a row of activations takes as integers with their scales."""
        return 0 if self.scales is None else self.units + self.units // self.group

    def argument(self) -> MatrixArgument:
        """As a kernel takes it; it holds addresses, so the matrix must outlive it."""
        scales = None if self.scales is None else self.scales.data_ptr()
        code = FORMATS[self.format]
        return MatrixArgument(code, self.columns, self.width, self.units, self.group, self.panels.data_ptr(), scales)


def _row_addresses(weight_NK: Tensor) -> Tensor:
    """Where each row begins in memory, int64."""
    return weight_NK.data_ptr() + torch.arange(len(weight_NK)) * (weight_NK.stride(0) * weight_NK.element_size())


def _panel_scales(scales: Tensor, num_panels: int) -> Tensor:
    """Scales of each output, [N] or [N, G], as panels hold them: [N / 64, 64] or [N / 64, G, 64]."""
    padded = functional.pad(scales.t(), (0, num_panels * PANEL - scales.shape[0]))
    return padded.view(*padded.shape[:-1], num_panels, PANEL).movedim(-2, 0).contiguous()


class Product(nn.Module):
    """Rows of activations times a packed matrix.

    Activations are float32 for a float32 matrix and bfloat16 for every other format; so are the outputs.

    Args:
        matrix: the weights.
        out_features: numbers in a row of outputs.
        finish: `STORE`, or `GATE`, which takes panels of two weights by turns.
    """

    panels: Tensor
    scales: Tensor | None

    def __init__(self, matrix: Matrix, out_features: int, finish: int = STORE) -> None:
        super().__init__()
        self.format, self.in_features, self.out_features = matrix.format, matrix.width, out_features
        self.dtype = ACTIVATIONS[matrix.format]
        self.argument = matrix.argument()
        self.address, self._finish, self._fixed_words = ctypes.addressof(self.argument), finish, matrix.fixed_words
        # A row of bfloat16 ends with a whole unit.
        self._padding = matrix.width % 2 if matrix.format == "bfloat16" else 0
        self.register_buffer("panels", matrix.panels, persistent=False)
        self.register_buffer("scales", matrix.scales, persistent=False)

    def taken(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [..., K] as the kernels take it: rows whose numbers lie side by side, and room for them as integers."""
        if x.dtype is not self.dtype or x.shape[-1] != self.in_features:
            raise InternalError(
                f"a {self.format} layer of {self.in_features} inputs was given {x.dtype} {list(x.shape)}",
                fix=f"give it {self.dtype} of that width",
            )
        if self._padding:
            x = functional.pad(x, (0, self._padding))
        rows_RK = x.reshape(-1, x.shape[-1])
        if rows_RK.stride(1) != 1:
            rows_RK = rows_RK.contiguous()
        words = rows_RK.shape[0] * self._fixed_words
        return rows_RK, x.new_empty(words, dtype=torch.int32) if words else None

    def forward(self, x: Tensor) -> Tensor:
        """`x · weightᵀ`; x: [..., K], its last dimension without gaps."""
        rows_RK, fixed = self.taken(x)
        y = x.new_empty((*x.shape[:-1], self.out_features))
        build.library().linear(
            self.address,
            self._finish,
            1.0,
            rows_RK.data_ptr(),
            rows_RK.stride(0),
            rows_RK.shape[0],
            y.data_ptr(),
            self.out_features,
            self.out_features,
            None if fixed is None else fixed.data_ptr(),
            torch.get_num_threads(),
        )
        return y

    def extra_repr(self) -> str:
        """What `print(model)` says of it."""
        return f"{self.in_features} → {self.out_features}, {self.format}"


class PackedLinear(Product):
    """A linear layer without bias: [..., K] to [..., N].

    Args:
        weights: one of [N, K], or several that stand one below the other.
        format: of the panels.
    """

    def __init__(self, weights: Tensor | Sequence[Tensor], format: str) -> None:
        matrix = Matrix.pack([weights] if isinstance(weights, Tensor) else weights, format)
        super().__init__(matrix, matrix.columns)


class PackedFanOut(PackedLinear):
    """Several weights that read the same input, multiplied as one: [..., K] to a tuple of [..., N] each."""

    def __init__(self, weights: Sequence[Tensor], format: str) -> None:
        super().__init__(weights, format)
        self.sizes = [len(weight) for weight in weights]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """The outputs of each weight, views of one tensor."""
        return super().forward(x).split(self.sizes, dim=-1)


class PackedGates(Product):
    """`silu(gate x) · up x`, whose two products are never written: [..., K] to [..., I].

    Args:
        gate_IK: weight of the gate.
        up_IK: weight of what it lets through.
        format: of the panels.
    """

    def __init__(self, gate_IK: Tensor, up_IK: Tensor, format: str) -> None:
        # A panel of the gate, then the panel of the same 64 outputs that it lets through.
        inner = len(gate_IK)
        order_2GP = functional.pad(torch.arange(2 * inner).view(2, inner), (0, -inner % PANEL), value=-1)
        order_N = order_2GP.unflatten(1, (-1, PANEL)).transpose(0, 1).flatten()
        super().__init__(Matrix.pack([gate_IK, up_IK], format, order_N), inner, GATE)
