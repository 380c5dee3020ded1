"""Packed linear layers and experts: right, and each row's bits its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from vernacular.foundation.errors import InternalError, UserError
from vernacular.kernels.experts import PackedExperts
from vernacular.kernels.linear import (
    ACTIVATIONS,
    FORMATS,
    PackedFanOut,
    PackedGates,
    PackedLinear,
    Quantised,
    group_size,
    quantise,
)

BFLOAT16_STEP = 2.0**-8


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dequantised(quantised: Quantised) -> Tensor:
    """The weights that the integers stand for, float32 [N, K]."""
    rows, width = quantised.integers_NK.shape
    scales = quantised.scales.view(rows, -1, 1)
    return (quantised.integers_NK.view(rows, scales.shape[1], -1).float() * scales).view(rows, width)


def as_stored(weight_NK: Tensor, format: str) -> Tensor:
    """The numbers that a format keeps, float64."""
    if format in ("int8", "int4"):
        return dequantised(quantise(weight_NK, format))[:, : weight_NK.shape[1]].double()
    return weight_NK.to(ACTIVATIONS[format]).double()


def as_read(x: Tensor, format: str) -> Tensor:
    """The numbers that products take for the activations [R, K], float64: beside integers, integers of 16 bits.

    Each group of them has a step in common, such that the largest uses 15 bits (panel.h).
    """
    if format not in ("int8", "int4"):
        return x.double()
    width = x.shape[-1]
    size = group_size(width)
    groups = functional.pad(x.double(), (0, -width % size)).unflatten(-1, (-1, size))
    steps = 2.0 ** (groups.abs().amax(-1, keepdim=True).log2().floor() - 14)
    return (torch.round(groups / steps) * steps).flatten(-2)[..., :width]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def assert_close(y: Tensor, x: Tensor, weight: Tensor, format: str) -> None:
    """Within float32's rounding of the products, and the rounding of the output."""
    read = as_read(x, format)
    exact = read @ weight.T
    size = read.abs() @ weight.abs().T
    allowed = 1e-6 * size + (0 if format == "float32" else BFLOAT16_STEP) * exact.abs()
    assert ((y.double() - exact).abs() <= allowed + 1e-30).all()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("outputs", "width"), [(64, 64), (1, 2), (100, 37), (130, 96), (200, 160), (257, 384), (96, 704)]
)
def test_products_are_those_of_the_stored_weights(format: str, outputs: int, width: int) -> None:
    weight_NK = drawn(outputs, width)
    layer = PackedLinear(weight_NK, format)
    for rows in (1, 2, 6, 7, 70, 200):
        x = drawn(rows, width, seed=rows).to(ACTIVATIONS[format])
        assert_close(layer(x), x, as_stored(weight_NK, format), format)


@settings(max_examples=40, deadline=None)
@given(
    format=st.sampled_from(list(FORMATS)),
    outputs=st.integers(1, 150),
    width=st.integers(1, 300),
    rows=st.integers(1, 110),
)
def test_any_shape(format: str, outputs: int, width: int, rows: int) -> None:
    weight_NK, x = drawn(outputs, width, seed=1), drawn(rows, width, seed=2).to(ACTIVATIONS[format])
    assert_close(PackedLinear(weight_NK, format)(x), x, as_stored(weight_NK, format), format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_row_is_the_same_bits_in_any_company_and_on_any_threads(format: str) -> None:
    layer = PackedLinear(drawn(200, 320), format)
    x = drawn(70, 320, seed=1).to(ACTIVATIONS[format])
    with threads(1):
        alone = torch.cat([layer(row) for row in x.split(1)])
    for count in (1, 2):
        with threads(count):
            for rows in range(1, 71):
                assert torch.equal(layer(x[:rows]), alone[:rows])
                assert torch.equal(layer(x[70 - rows :]), alone[70 - rows :])


@pytest.mark.parametrize("format", FORMATS)
def test_several_weights_share_a_product(format: str) -> None:
    weights = [drawn(70, 96), drawn(24, 96, seed=1), drawn(1, 96, seed=2)]
    x = drawn(2, 3, 96, seed=3).to(ACTIVATIONS[format])
    outputs = PackedFanOut(weights, format)(x)
    assert [y.shape for y in outputs] == [(2, 3, 70), (2, 3, 24), (2, 3, 1)]
    for y, weight in zip(outputs, weights, strict=True):
        assert torch.equal(y, PackedLinear(weight, format)(x))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("inner", [64, 72, 130, 33])
def test_gates_are_opened_as_they_are_multiplied(format: str, inner: int) -> None:
    gate, up = drawn(inner, 96), drawn(inner, 96, seed=1)
    layer = PackedGates(gate, up, format)
    x = drawn(300, 96, seed=2).to(ACTIVATIONS[format])
    x[7] *= 100  # where a gate is open or shut altogether
    stored = [as_stored(weight, format) for weight in (gate, up)]
    read = as_read(x, format)
    a, b = (read @ weight.T for weight in stored)
    a_size, b_size = (read.abs() @ weight.abs().T for weight in stored)
    y, exact = layer(x), functional.silu(a) * b
    assert y.shape == (300, inner)
    allowed = 1e-6 * (1.1 * a_size * b.abs() + a.abs() * b_size)
    allowed += (1e-6 if format == "float32" else BFLOAT16_STEP) * exact.abs()
    assert ((y.double() - exact).abs() <= allowed + 1e-30).all()
    assert torch.equal(layer(x[40:41]), y[40:41])
    x[1, 3] = float("nan")
    assert layer(x)[1].isnan().all()


@pytest.mark.parametrize("format", ["float32", "bfloat16"])
def test_a_gate_far_below_0_is_shut(format: str) -> None:
    gates = [-80.0, -88.0, -88.5, -89.0, -100.0, -1e4, -1e30, -3e38, 88.0, 100.0, 3e38]
    up = torch.zeros(64, 64)
    up[:, -1] = 1
    x = functional.pad(torch.tensor([gates]), (0, 63 - len(gates))).to(ACTIVATIONS[format])
    layer = PackedGates(torch.eye(64), up, format)
    y = layer(functional.pad(x, (0, 1), value=1))[:, : len(gates)]
    torch.testing.assert_close(y, functional.silu(x[:, : len(gates)]), rtol=BFLOAT16_STEP, atol=2.0**-120)


@pytest.mark.parametrize("format", FORMATS)
def test_views_are_read_where_they_lie(format: str) -> None:
    layer = PackedLinear(drawn(64, 32), format)
    x = drawn(5, 100, seed=1).to(ACTIVATIONS[format])
    assert torch.equal(layer(x[:, 7:39]), layer(x[:, 7:39].clone()))
    assert torch.equal(layer(x[:, :64:2]), layer(x[:, :64:2].clone()))
    assert layer(x[:0, :32]).shape == (0, 64)


@pytest.mark.parametrize("format", ["bfloat16", "int8", "int4"])
def test_what_is_not_a_number_reaches_its_row_only(format: str) -> None:
    layer = PackedLinear(drawn(64, 256), format)
    x = drawn(3, 256, seed=1).bfloat16()
    clean = layer(x)
    x[1, 200] = float("nan")
    spoilt = layer(x)
    assert spoilt[1].isnan().all() and torch.equal(spoilt[[0, 2]], clean[[0, 2]])


def test_activations_of_very_unequal_size_keep_their_products() -> None:
    x = torch.full((1, 256), 2.0**-20).bfloat16()
    x[0, 0], x[0, 200] = 3000.0, 2.0**-130  # the second group holds small numbers only, and one that is nearly nothing
    y = PackedLinear(torch.ones(64, 256), "int8")(x)
    assert y[0, 0].item() == pytest.approx(3000.0, rel=BFLOAT16_STEP)
    x[0, 0] = 0
    y = PackedLinear(torch.ones(64, 256), "int8")(x)
    assert y[0, 0].item() == pytest.approx(254 * 2.0**-20, rel=BFLOAT16_STEP)


def test_quantised_weights_are_the_nearest_under_their_scale() -> None:
    weight = drawn(50, 256)
    eight, four = quantise(weight, "int8"), quantise(weight, "int4")
    assert (dequantised(eight) - weight).abs().max() <= 0.5001 * eight.scales.max()
    assert eight.integers_NK.abs().amax(1).eq(127).all()
    assert four.scales.shape == (50, 2) and four.integers_NK.min() == -8 and four.integers_NK.max() <= 7
    # Half a step everywhere, a whole one where the far end of the scale has no eighth step.
    assert ((dequantised(four) - weight).abs() <= 1.0001 * four.scales.abs().repeat_interleave(128, 1)).all()
    zeros = torch.zeros(3, 64)
    assert not any(dequantised(quantise(zeros, format)).any() for format in ("int8", "int4"))
    assert [group_size(width) for width in (1024, 192, 96, 50)] == [128, 64, 32, 32]


def test_memory_is_what_the_format_says() -> None:
    weight = drawn(128, 256)
    sizes = {format: PackedLinear(weight, format).panels.numel() / weight.numel() for format in FORMATS}
    assert sizes == {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 0.5}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="unknown format of weights 'int5'"):
        PackedLinear(drawn(4, 4), "int5")
    with pytest.raises(InternalError, match=r"given torch\.float32"):
        PackedLinear(drawn(4, 4), "int8")(drawn(1, 4))
    with pytest.raises(InternalError, match="4 inputs"):
        PackedLinear(drawn(4, 4), "float32")(drawn(1, 5))
    with pytest.raises(UserError, match="even width"):
        PackedExperts(drawn(2, 10, 8), drawn(2, 8, 5), "bfloat16")


def experts_by_loop(x: Tensor, in_EID: Tensor, out_EDI: Tensor, experts: Tensor, gates: Tensor) -> Tensor:
    """Token by token and expert by expert, float64."""
    y = torch.zeros(x.shape, dtype=torch.float64)
    for n in range(len(x)):
        for expert, gate in zip(experts[n].tolist(), gates[n].double(), strict=True):
            a, b = (in_EID[expert] @ x[n].double()).chunk(2)
            y[n] += gate * (out_EDI[expert] @ (functional.silu(a) * b))
    return y


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("num_experts", "chosen", "width", "inner"), [(5, 2, 64, 40), (32, 8, 384, 192), (5, 2, 100, 72), (1, 1, 32, 32)]
)
def test_experts(format: str, num_experts: int, chosen: int, width: int, inner: int) -> None:
    in_EID = drawn(num_experts, 2 * inner, width) / width**0.5
    out_EDI = drawn(num_experts, width, inner, seed=1) / inner**0.5
    layer = PackedExperts(in_EID, out_EDI, format)
    x = drawn(70, width, seed=2).to(ACTIVATIONS[format])
    gates, experts = drawn(70, num_experts, seed=3).topk(chosen)
    gates = gates.softmax(-1)
    y = layer(x, experts, gates)

    stored_in = as_stored(in_EID.flatten(0, 1), format).view_as(in_EID)
    stored_out = as_stored(out_EDI.flatten(0, 1), format).view_as(out_EDI)
    exact = experts_by_loop(x, stored_in, stored_out, experts, gates)
    error = (y - exact).norm() / exact.norm()
    assert error < (1e-6 if format == "float32" else 4e-3)

    for count in (1, 2):
        with threads(count):
            for rows in (1, 2, 3, 17, 70):
                assert torch.equal(layer(x[:rows], experts[:rows], gates[:rows]), y[:rows])
    alone = torch.cat([layer(x[n : n + 1], experts[n : n + 1], gates[n : n + 1]) for n in range(70)])
    assert torch.equal(alone, y)
    assert layer(x[:0], experts[:0], gates[:0]).shape == (0, width)


def test_all_tokens_may_choose_one_expert() -> None:
    in_EID, out_EDI = drawn(4, 32, 16), drawn(4, 16, 16, seed=1)
    x, experts, gates = drawn(300, 16, seed=2), torch.full((300, 1), 2), torch.ones(300, 1)
    y = PackedExperts(in_EID, out_EDI, "float32")(x, experts, gates)
    exact = experts_by_loop(x, in_EID.double(), out_EDI.double(), experts, gates)
    assert (y - exact).norm() / exact.norm() < 1e-6
