"""Norms, rotation, gates, experts and cross-entropy in training: gradients as in float64, the same
bits on any threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.nn import functional

from vernacular.foundation.errors import InternalError, UserError
from vernacular.kernels import training_rows as rows
from vernacular.kernels.cross_entropy import cross_entropy_rows
from vernacular.kernels.training_experts import experts
from vernacular.models.feed_forward import answer
from vernacular.models.position import RotaryPosition

EPSILON = 1e-5
DTYPES = [torch.float32, torch.bfloat16]
ALLOWED = {torch.float32: 3e-6, torch.bfloat16: 1.2e-2}
Function = Callable[..., Tensor]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def results(function: Function, inputs: Sequence[Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    """The value, and the gradients of the inputs that have one."""
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in inputs]
    y = function(*leaves)
    y.backward(drawn(*y.shape, seed=9).to(y.dtype))
    return [y.detach(), *(x.grad for x in leaves if x.grad is not None)]


def assert_as_in_float64(
    ours: Function, exact: Function, inputs: Sequence[Tensor], dtype: torch.dtype, *, any_threads: bool = True
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    one = results(ours, inputs)
    torch.set_num_threads(2)
    two = results(ours, inputs)
    torch.set_num_threads(before)
    for result, same, wanted in zip(one, two, results(exact, inputs, torch.float64), strict=True):
        assert torch.equal(result, same) or not any_threads, "bits depend on the number of threads"
        assert (result.double() - wanted).abs().max() <= ALLOWED[dtype] * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (7, 61), (130, 512)])
@pytest.mark.parametrize("centred", [False, True], ids=["rms", "layer"])
def test_norms(shape: tuple[int, int], dtype: torch.dtype, centred: bool) -> None:
    def exact(x: Tensor, weight: Tensor) -> Tensor:
        if centred:
            return functional.layer_norm(x, weight.shape, weight, None, EPSILON)
        return functional.rms_norm(x, weight.shape, weight, EPSILON)

    def ours(x: Tensor, weight: Tensor) -> Tensor:
        return (rows.layer_norm if centred else rows.rms_norm)(x, weight, EPSILON)

    assert_as_in_float64(ours, exact, [drawn(*shape, dtype=dtype) + 2, drawn(shape[1], seed=1)], dtype)


def test_a_norm_under_autocast_reads_float32_and_writes_bfloat16() -> None:
    x, weight = drawn(5, 64).requires_grad_(), drawn(64, seed=1).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = rows.rms_norm(x, weight, EPSILON)
    y.backward(torch.ones_like(y))
    assert y.dtype is torch.bfloat16
    assert x.grad is not None and x.grad.dtype is torch.float32
    assert weight.grad is not None and weight.grad.dtype is torch.float32
    torch.testing.assert_close(y.float(), functional.rms_norm(x, (64,), weight, EPSILON), rtol=2**-8, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [6, 48, 128])
def test_rotation(width: int, dtype: torch.dtype) -> None:
    cosine, sine = RotaryPosition(width, 10_000.0).angles(torch.tensor([[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]]))
    projected = drawn(2, 5, 3 * width, dtype=dtype)

    def turned(by: Function) -> Function:
        return lambda x: by(x.unflatten(-1, (3, width)).transpose(1, 2), cosine.to(x), sine.to(x))

    def ours(x: Tensor) -> Tensor:
        return rows.rotate(x.unflatten(-1, (3, width)).transpose(1, 2), cosine, sine)

    assert_as_in_float64(ours, turned(RotaryPosition.rotate), [projected], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (4, 33), (90, 384)])
def test_gate(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    def exact(gate: Tensor, up: Tensor) -> Tensor:
        return functional.silu(gate) * up

    gate, up = (3 * drawn(*shape, seed=seed) for seed in (0, 1))
    assert_as_in_float64(rows.gated_silu, exact, [gate.to(dtype), up.to(dtype)], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [1.0, 0.22])
def test_the_residual_sum_keeps_the_streams_precision(dtype: torch.dtype, factor: float) -> None:
    x, update = drawn(7, 37), drawn(7, 37, seed=1, dtype=dtype)
    assert rows.add(x, update, factor).dtype is torch.float32
    assert_as_in_float64(lambda a, b: rows.add(a, b, factor), lambda a, b: a + factor * b, [x, update], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_experts(dtype: torch.dtype) -> None:
    tokens, width, inner, num_experts, per_token = 37, 40, 20, 6, 2
    x, gates = (
        drawn(tokens, width, dtype=dtype),
        torch.rand(tokens, per_token, generator=torch.Generator().manual_seed(5)),
    )
    into = (drawn(num_experts, 2 * inner, width, seed=1) / 6).to(dtype)
    out = (drawn(num_experts, width, inner, seed=2) / 6).to(dtype)
    # The last expert is nobody's.
    chosen = drawn(tokens, num_experts - 1, seed=3).topk(per_token).indices

    def exact(x: Tensor, into: Tensor, out: Tensor, gates: Tensor) -> Tensor:
        return answer(functional.silu, x, into, out, chosen, gates)

    def ours(x: Tensor, into: Tensor, out: Tensor, gates: Tensor) -> Tensor:
        return experts(x, into, out, chosen, gates)

    # The products are PyTorch's, whose bits are those of a number of threads.
    assert_as_in_float64(ours, exact, [x, into, out, gates], dtype, any_threads=False)
    gradients = results(ours, [x, into, out, gates])
    assert not gradients[2][-1].any() and not gradients[3][-1].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [3, 101, 4096])
def test_cross_entropy_becomes_its_gradient_in_place(width: int, dtype: torch.dtype) -> None:
    logits, targets = 4 * drawn(9, width, dtype=dtype), torch.arange(9) % width
    weights = torch.rand(9, generator=torch.Generator().manual_seed(4))
    exact = logits.double().requires_grad_()
    normaliser = exact.logsumexp(dim=1)
    nats = functional.cross_entropy(exact, targets, reduction="none")
    (weights * (nats + 0.1 * normaliser.square())).sum().backward()
    untouched = logits.clone()
    scored = cross_entropy_rows(untouched, targets, weights, z_weight=0.1, wants_gradient=False)
    assert torch.equal(untouched, logits)
    ours = cross_entropy_rows(logits, targets, weights, z_weight=0.1, wants_gradient=True)
    assert all(torch.equal(a, b) for a, b in zip(scored[:3], ours[:3], strict=True))
    torch.testing.assert_close(ours[0].double(), nats.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1].double(), normaliser.detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(ours[2], untouched.argmax(dim=1) == targets)
    assert exact.grad is not None and ours[3].data_ptr() == logits.data_ptr()
    assert (logits.double() - exact.grad).abs().max() <= ALLOWED[dtype]


def test_of_equal_scores_the_first_is_the_best() -> None:
    logits, targets = torch.tensor([[1.0, 5.0, 5.0]] * 2), torch.tensor([1, 2])
    best = cross_entropy_rows(logits, targets, torch.ones(2), z_weight=0.0, wants_gradient=False)[2]
    assert best.tolist() == [True, False]


def test_a_score_that_is_no_number_reaches_the_loss() -> None:
    logits = drawn(2, 50)
    logits[1, 7] = torch.nan
    nats = cross_entropy_rows(logits, torch.tensor([3, 3]), torch.ones(2), z_weight=0.0, wants_gradient=True)[0]
    assert nats.isfinite().tolist() == [True, False]


def test_other_precisions_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"torch\.float64"):
        rows.gated_silu(drawn(2, 4).double(), drawn(2, 4).double())


def test_what_is_still_on_its_way_from_other_ranks_is_refused() -> None:
    awaited = AsyncCollectiveTensor(torch.ones(2, 4))
    with pytest.raises(InternalError, match="AsyncCollectiveTensor"):
        rows.rms_norm(awaited, torch.ones(4), 1e-5)
