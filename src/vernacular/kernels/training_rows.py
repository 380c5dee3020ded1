"""What happens to single rows in training, on a CPU: norms, rotation, the gate of a feed-forward, the residual sum.

Each is one pass over memory where PyTorch makes several, forward and backward. Under autocast a norm reads the residual
stream as it is, float32, and writes what the products after it take. Arithmetic is in float32; the same bits come out
on any number of threads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from vernacular.foundation.errors import InternalError, UserError
from vernacular.kernels import build

_PART_ROWS = 64


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """`x / sqrt(mean(x²) + ε) · weight` of each row, in the products' dtype."""
    normal: Tensor = _Norm.apply(x, weight, epsilon, False, product_dtype(x))
    return normal


def layer_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """As `rms_norm`, of each row less its mean."""
    normal: Tensor = _Norm.apply(x, weight, epsilon, True, product_dtype(x))
    return normal


def rotate(x_BHTC: Tensor, cosine_B1TC: Tensor, sine_B1TC: Tensor) -> Tensor:
    """As `RotaryPosition.rotate`, in the dtype of `x_BHTC`."""
    rotated: Tensor = _Rotation.apply(x_BHTC, cosine_B1TC, sine_B1TC)
    return rotated


def gated_silu(gate: Tensor, up: Tensor) -> Tensor:
    """`silu(gate) · up`."""
    product: Tensor = _Gate.apply(gate, up)
    return product


def add(x: Tensor, update: Tensor, factor: float) -> Tensor:
    """`x + factor · update` in the dtype of `x`: the residual stream stays as precise as it began."""
    total: Tensor = _Sum.apply(x, update, factor)
    return total


def product_dtype(x: Tensor) -> torch.dtype:
    """What matrix products take: autocast's dtype where it is on, otherwise that of `x`."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def is_bfloat16(*tensors: Tensor) -> bool:
    """Whether they are bfloat16 rather than float32. Raises `UserError` for any other dtype, and for a mixture.

    Raises `InternalError` for what only stands for a tensor, such as an answer of other ranks that is still on its way:
    nothing is at its address.
    """
    for x in tensors:
        if is_traceable_wrapper_subclass(x):
            raise InternalError(f"the CPU kernels were given {type(x).__name__}, which holds no values itself")
    dtypes = {x.dtype for x in tensors}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.bfloat16}:
        names = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise UserError(
            f"the CPU kernels train in float32 or bfloat16; they were given {names}",
            where="kernels",
            fix="set kernels: torch",
        )
    return dtypes == {torch.bfloat16}


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, centred: bool, dtype: torch.dtype) -> Tensor:
        x = x.contiguous()
        weights = weight.detach().float().contiguous()
        y = torch.empty_like(x, dtype=dtype)
        rows, width = x.numel() // x.shape[-1], x.shape[-1]
        means, scales = torch.empty(2, rows)
        build.library().norm_rows(
            is_bfloat16(x),
            is_bfloat16(y),
            centred,
            *(tensor.data_ptr() for tensor in (x, weights, y, means, scales)),
            rows,
            width,
            epsilon,
            torch.get_num_threads(),
        )
        ctx.save_for_backward(x, weights, means, scales)
        ctx.centred, ctx.weight_dtype = centred, weight.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weights, means, scales = ctx.saved_tensors
        dy = gradients[0].contiguous()
        dx = torch.empty_like(x)
        rows, width = x.numel() // x.shape[-1], x.shape[-1]
        dweights = torch.empty(-(-rows // _PART_ROWS), width)
        build.library().norm_rows_gradient(
            is_bfloat16(x),
            is_bfloat16(dy),
            ctx.centred,
            *(tensor.data_ptr() for tensor in (x, weights, dy, means, scales, dx, dweights)),
            rows,
            width,
            torch.get_num_threads(),
        )
        return dx, dweights.sum(dim=0).to(ctx.weight_dtype), None, None, None


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BHTC: Tensor, cosine_B1TC: Tensor, sine_B1TC: Tensor) -> Tensor:
        batch, _, tokens, width = x_BHTC.shape
        shape = (batch, 1, tokens, width)
        angles = (cosine_B1TC.float().expand(shape).contiguous(), sine_B1TC.float().expand(shape).contiguous())
        ctx.save_for_backward(*angles)
        return _rotated(x_BHTC, *angles, sign=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _rotated(gradients[0], *ctx.saved_tensors, sign=-1), None, None


def _rotated(x_BHTC: Tensor, cosine: Tensor, sine: Tensor, *, sign: int) -> Tensor:
    batch, heads, tokens, width = x_BHTC.shape
    x_BTHC = x_BHTC.transpose(1, 2)
    if x_BTHC.stride()[2:] != (width, 1) or x_BTHC.stride(0) != tokens * x_BTHC.stride(1):
        x_BTHC = x_BTHC.contiguous()
    y_BTHC = x_BTHC.new_empty(x_BTHC.shape)
    build.library().rotate_rows(
        is_bfloat16(x_BTHC),
        False,
        x_BTHC.data_ptr(),
        x_BTHC.stride(1),
        y_BTHC.data_ptr(),
        heads * width,
        cosine.data_ptr(),
        sine.data_ptr(),
        sign,
        batch * tokens,
        heads,
        width,
        torch.get_num_threads(),
    )
    return y_BTHC.transpose(1, 2)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        y = torch.empty_like(gate)
        open_gate(gate, up, None, y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        gate, up = ctx.saved_tensors
        dgate, dup = torch.empty_like(gate), torch.empty_like(up)
        open_gate_gradient(gate, up, None, gradients[0].contiguous(), dgate, dup, None)
        return dgate, dup


def open_gate(gate: Tensor, up: Tensor, by: Tensor | None, y: Tensor) -> None:
    """`y = by · silu(gate) · up`, each row by its own number; rows of `gate` and `up` the same distance apart."""
    width = y.shape[-1]
    build.library().gate_rows(
        is_bfloat16(gate, up, y),
        gate.data_ptr(),
        up.data_ptr(),
        gate.stride(-2) if gate.dim() > 1 else width,
        None if by is None else by.data_ptr(),
        y.data_ptr(),
        y.numel() // width,
        width,
        torch.get_num_threads(),
    )


def open_gate_gradient(
    gate: Tensor, up: Tensor, by: Tensor | None, dy: Tensor, dgate: Tensor, dup: Tensor, dby: Tensor | None
) -> None:
    """The gradients of `open_gate`; `dgate` and `dup` lie as `gate` and `up` do."""
    width = dy.shape[-1]
    build.library().gate_rows_gradient(
        is_bfloat16(gate, up, dy, dgate, dup),
        gate.data_ptr(),
        up.data_ptr(),
        gate.stride(-2) if gate.dim() > 1 else width,
        None if by is None else by.data_ptr(),
        dy.data_ptr(),
        dgate.data_ptr(),
        dup.data_ptr(),
        None if dby is None else dby.data_ptr(),
        dy.numel() // width,
        width,
        torch.get_num_threads(),
    )


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, update: Tensor, factor: float) -> Tensor:
        x, update = x.contiguous(), update.contiguous()
        ctx.factor, ctx.update_dtype = factor, update.dtype
        y = torch.empty_like(x)
        build.library().add_rows(
            is_bfloat16(x),
            is_bfloat16(update),
            x.data_ptr(),
            update.data_ptr(),
            factor,
            y.data_ptr(),
            x.numel(),
            torch.get_num_threads(),
        )
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        dx = gradients[0]
        dupdate = dx if ctx.factor == 1 else dx * ctx.factor
        return dx, dupdate.to(ctx.update_dtype), None


def sum_rows(rows_MD: Tensor, places_NK: Tensor) -> Tensor:
    """`Σ_k rows[places[n, k]]` in float32, k in order; [N, D] in the rows' dtype."""
    y_ND = rows_MD.new_empty(len(places_NK), rows_MD.shape[1])
    build.library().sum_rows(
        is_bfloat16(rows_MD),
        rows_MD.data_ptr(),
        places_NK.data_ptr(),
        places_NK.shape[1],
        y_ND.data_ptr(),
        len(places_NK),
        rows_MD.shape[1],
        torch.get_num_threads(),
    )
    return y_ND
