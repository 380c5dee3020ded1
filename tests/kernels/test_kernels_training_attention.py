"""Attention in training: its answers and gradients are those of float64, and the same bits however it is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vernacular.foundation.errors import InternalError, UserError
from vernacular.kernels.training_attention import attend, first_visible


class Case(NamedTuple):
    rows: int
    tokens: int
    heads: int
    key_heads: int
    width: int
    window: int | None = None
    documents: bool = False
    alibi: bool = False


CASES = [
    Case(2, 130, 4, 2, 64),
    Case(1, 65, 3, 1, 48, documents=True, alibi=True),
    Case(2, 200, 4, 4, 96, window=37, documents=True),
    Case(1, 64, 2, 1, 128, alibi=True),
    Case(1, 129, 6, 2, 80, window=64),
    Case(1, 3, 2, 1, 16),
    Case(2, 77, 2, 2, 10, window=1),
]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def drawn(case: Case, dtype: torch.dtype, seed: int = 0) -> tuple[list[Tensor], Tensor, Tensor | None, Tensor]:
    """Queries, keys and values; first visible tokens; slopes; the gradient of the answers."""
    generator = torch.Generator().manual_seed(seed)
    rows, tokens, heads, key_heads, width, window, documents, alibi = case
    qkv = [torch.randn(rows, tokens, h, width, generator=generator).to(dtype) for h in (heads, key_heads, key_heads)]
    starts = torch.rand(rows, tokens, generator=generator) < (0.05 if documents else 0)
    slopes = torch.rand(heads, generator=generator) if alibi else None
    change = torch.randn(rows, tokens, heads, width, generator=generator).to(dtype)
    return qkv, first_visible(starts.cumsum(1), window), slopes, change


def reference(q: Tensor, k: Tensor, v: Tensor, first_BT: Tensor, scale: float, slopes: Tensor | None) -> Tensor:
    """As `attend`, with all scores at once."""
    places = torch.arange(q.shape[1])
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * scale
    if slopes is not None:
        scores = scores + slopes.to(scores.dtype)[:, None, None] * (places - places[:, None])
    visible = (places <= places[:, None]) & (places >= first_BT[:, :, None])
    return (scores.masked_fill(~visible[:, None], -torch.inf).softmax(-1) @ v).transpose(1, 2)


def run(case: Case, dtype: torch.dtype) -> list[Tensor]:
    """The answers, and the gradients of queries, keys and values."""
    qkv, first, slopes, change = drawn(case, dtype)
    leaves = [x.requires_grad_() for x in qkv]
    out = attend(*leaves, first, scale=case.width**-0.5, slopes_H=slopes)
    out.backward(change)
    return [out.detach(), *(x.grad for x in leaves if x.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_answers_and_gradients_are_those_of_float64(case: Case, dtype: torch.dtype) -> None:
    qkv, first, slopes, change = drawn(case, dtype)
    leaves = [x.double().requires_grad_() for x in qkv]
    out = reference(*leaves, first, case.width**-0.5, slopes)
    out.backward(change.double())
    allowed = 3e-6 if dtype is torch.float32 else 1e-2
    for ours, exact in zip(run(case, dtype), [out.detach(), *(x.grad for x in leaves)], strict=True):
        assert exact is not None
        assert (ours.double() - exact).abs().max() <= allowed * max(1.0, float(exact.abs().max()))


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 150),
    key_heads=st.integers(1, 3),
    group=st.integers(1, 4),
    half_width=st.integers(1, 40),
    window=st.one_of(st.none(), st.integers(1, 160)),
    documents=st.booleans(),
)
def test_any_shape(
    tokens: int, key_heads: int, group: int, half_width: int, window: int | None, documents: bool
) -> None:
    case = Case(1, tokens, key_heads * group, key_heads, 2 * half_width, window, documents)
    qkv, first, _, change = drawn(case, torch.float32)
    leaves = [x.double().requires_grad_() for x in qkv]
    out = reference(*leaves, first, case.width**-0.5, None)
    out.backward(change.double())
    for ours, exact in zip(run(case, torch.float32), [out.detach(), *(x.grad for x in leaves)], strict=True):
        assert exact is not None
        assert (ours.double() - exact).abs().max() <= 5e-6 * max(1.0, float(exact.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_on_any_threads_and_beside_any_row(dtype: torch.dtype) -> None:
    case = Case(3, 140, 4, 2, 48, documents=True)
    with threads(1):
        alone, again = run(case, dtype), run(case, dtype)
    with threads(2):
        together = run(case, dtype)
    for one, same, two in zip(alone, again, together, strict=True):
        assert torch.equal(one, same) and torch.equal(one, two)
    qkv, first, _, _ = drawn(case, dtype)
    last = attend(*(x[2:] for x in qkv), first[2:], scale=48**-0.5)
    assert torch.equal(last, alone[0][2:])


def test_a_packed_document_is_what_it_is_alone() -> None:
    (q, k, v), _, _, _ = drawn(Case(1, 150, 4, 2, 64), torch.float32)
    documents = torch.tensor([[7] * 70 + [3] * 80])
    packed = attend(q, k, v, first_visible(documents), scale=0.125)
    for part in (slice(0, 70), slice(70, 150)):
        own = documents[:, part]
        alone = attend(q[:, part], k[:, part], v[:, part], first_visible(own), scale=0.125)
        torch.testing.assert_close(packed[:, part], alone, atol=2e-6, rtol=0)


def test_what_a_token_cannot_see_does_not_reach_it_and_what_is_not_a_number_does() -> None:
    (q, k, v), _, _, _ = drawn(Case(1, 100, 2, 1, 32), torch.float32)
    first = first_visible(torch.tensor([[0] * 40 + [1] * 60]))
    before = attend(q, k, v, first, scale=1.0)
    k[:, 50] = torch.nan
    after = attend(q, k, v, first, scale=1.0)
    assert torch.equal(before[:, :50], after[:, :50])
    assert after[:, 50:].isnan().all()


def test_views_of_one_projection_are_read_where_they_lie() -> None:
    together = torch.randn(2, 70, 8 * 16, generator=torch.Generator().manual_seed(3))
    q, k, v = (part.unflatten(-1, (-1, 16)) for part in together.split([64, 32, 32], dim=-1))
    first = first_visible(torch.zeros(2, 70))
    copied = attend(q.contiguous(), k.contiguous(), v.contiguous(), first, scale=0.25)
    assert torch.equal(attend(q, k, v, first, scale=0.25), copied)


def test_first_visible_is_the_documents_first_or_the_windows() -> None:
    documents = torch.tensor([[4, 4, 4, 9, 9, -1], [0, 0, 0, 0, 0, 0]])
    assert first_visible(documents).tolist() == [[0, 0, 0, 3, 3, 5], [0] * 6]
    assert first_visible(documents, 2).tolist() == [[0, 0, 1, 3, 3, 5], [0, 0, 1, 2, 3, 4]]


def test_what_the_kernels_cannot_take_is_refused() -> None:
    first = first_visible(torch.zeros(1, 4))
    wide, odd = torch.zeros(1, 4, 1, 512), torch.zeros(1, 4, 1, 5, dtype=torch.bfloat16)
    with pytest.raises(UserError, match="up to 256"):
        attend(wide, wide, wide, first, scale=1.0)
    with pytest.raises(UserError, match="even width"):
        attend(odd, odd, odd, first, scale=1.0)
    with pytest.raises(InternalError, match="first"):
        attend(odd.float(), odd.float(), odd.float(), first.long(), scale=1.0)
