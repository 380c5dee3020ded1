"""Attention over pages: right, and a token's bits those of its own sequence up to its position."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vernacular.foundation.errors import InternalError, UserError
from vernacular.kernels import attention

PAGE = attention.PAGE_SIZE
NUM_PAGES = 64


@dataclass(frozen=True)
class Case:
    """Sequences of some lengths, their queries, keys and values, and what a layer does with them."""

    lengths: tuple[int, ...]
    num_heads: int = 4
    num_key_heads: int = 2
    width: int = 64
    window: int = 0
    alibi: bool = False
    dtype: torch.dtype = torch.float32

    def tokens(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shapes = [(sum(self.lengths), heads, self.width) for heads in (self.num_heads,) + (self.num_key_heads,) * 2]
        q, k, v = (torch.randn(shape, generator=generator).to(self.dtype) for shape in shapes)
        return q, k, v

    def slopes(self) -> Tensor | None:
        return torch.linspace(0.5, 0.01, self.num_heads) if self.alibi else None

    def places(self) -> tuple[Tensor, Tensor]:
        """Each token's sequence and position, int32."""
        sequences = torch.cat([torch.full((length,), s) for s, length in enumerate(self.lengths)])
        return sequences.int(), torch.cat([torch.arange(length) for length in self.lengths]).int()


def page_table(lengths: tuple[int, ...], seed: int | None = 0) -> Tensor:
    """Pages of each sequence, scattered over the pool, or in order without a seed; -1 where it needs none."""
    widest = max(-(-length // PAGE) for length in lengths)
    order = torch.randperm(NUM_PAGES, generator=torch.Generator().manual_seed(seed)) if seed is not None else None
    pages = (order if order is not None else torch.arange(NUM_PAGES))[: len(lengths) * widest].view(-1, widest).int()
    for row, length in zip(pages, lengths, strict=True):
        row[-(-length // PAGE) :] = -1
    return pages


def slots_of(table: Tensor, sequences: Tensor, positions: Tensor) -> Tensor:
    return table[sequences.long(), positions.long() // PAGE].long() * PAGE + positions.long() % PAGE


def run(case: Case, table: Tensor, *, chunk: int | None = None, dirt: float = float("nan")) -> Tensor:
    """Write and attend, all at once or `chunk` tokens of each sequence at a time, in a pool full of `dirt`."""
    q, k, v = case.tokens()
    sequences, positions = case.places()
    k_pool, v_pool = attention.pools(2, NUM_PAGES, case.num_key_heads, case.width, case.dtype)
    k_pool.fill_(dirt), v_pool.fill_(dirt)
    slots, out = slots_of(table, sequences, positions), torch.empty_like(q)
    for start in range(0, max(case.lengths), chunk or max(case.lengths)):
        now = (positions >= start) & (positions < start + (chunk or max(case.lengths)))
        attention.write(k_pool, v_pool, k[now], v[now], slots[now])
        settings = {"scale": case.width**-0.5, "window": case.window, "slopes_H": case.slopes()}
        out[now] = attention.attend(q[now], k_pool, v_pool, table, sequences[now], positions[now], **settings)
    return out


def by_formula(case: Case) -> Tensor:
    """Sequence by sequence, head by head, in float64."""
    q, k, v = (x.double() for x in case.tokens())
    slopes, out, first = case.slopes(), torch.empty_like(q), 0
    for length in case.lengths:
        own = slice(first, first + length)
        distance = torch.arange(length) - torch.arange(length)[:, None]
        seen = (distance <= 0) & ((distance > -case.window) if case.window else True)
        for head in range(case.num_heads):
            key_head = head // (case.num_heads // case.num_key_heads)
            scores = q[own, head] @ k[own, key_head].T * case.width**-0.5
            if slopes is not None:
                scores = scores + slopes[head].double() * distance
            out[own, head] = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v[own, key_head]
        first += length
    return out


CASES = {
    "grouped": Case((1, 33, 70, 200), 8, 2, 64),
    "one key head": Case((40, 5), 6, 1, 16),
    "one key head of many queries": Case((40, 5), 50, 1, 96),
    "a key head each": Case((40, 64, 65), 3, 3, 128),
    "narrow": Case((90,), 4, 2, 24),
    "window shorter than a page": Case((150, 20), 4, 2, 64, window=7),
    "window over pages": Case((150, 20), 4, 2, 64, window=45),
    "ALiBi": Case((100, 31), 6, 2, 64, alibi=True),
    "ALiBi in a window": Case((100, 31), 3, 1, 96, window=33, alibi=True),
    "widest": Case((35,), 2, 1, 256),
}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


@DTYPES
@pytest.mark.parametrize("name", CASES)
def test_is_the_formula(name: str, dtype: torch.dtype) -> None:
    case = replace(CASES[name], dtype=dtype)
    exact, table = by_formula(case), page_table(case.lengths)
    allowed = 5e-6 if dtype == torch.float32 else 2e-2
    assert (run(case, table) - exact).abs().max() < allowed


@DTYPES
@pytest.mark.parametrize("name", CASES)
def test_bits_do_not_depend_on_chunks_pages_or_threads(name: str, dtype: torch.dtype) -> None:
    case = replace(CASES[name], dtype=dtype)
    whole = run(case, page_table(case.lengths))
    for chunk in (1, 7, 32, 50):
        assert torch.equal(run(case, page_table(case.lengths), chunk=chunk), whole)
    assert torch.equal(run(case, page_table(case.lengths, seed=None), dirt=float("inf")), whole)
    before = torch.get_num_threads()
    torch.set_num_threads(3 - min(before, 2))
    assert torch.equal(run(case, page_table(case.lengths, seed=5)), whole)
    torch.set_num_threads(before)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=5).map(tuple),
    heads=st.sampled_from([(1, 1), (4, 4), (4, 2), (5, 1), (12, 3)]),
    width=st.sampled_from([16, 24, 64, 96, 128]),
    window=st.sampled_from([0, 1, 5, 32, 64]),
    alibi=st.booleans(),
    chunk=st.integers(1, 100),
)
def test_any_case(
    lengths: tuple[int, ...], heads: tuple[int, int], width: int, window: int, alibi: bool, chunk: int
) -> None:
    case = Case(lengths, *heads, width, window, alibi)
    whole = run(case, page_table(lengths))
    assert (whole - by_formula(case)).abs().max() < 5e-6
    assert torch.equal(run(case, page_table(lengths, seed=3), chunk=chunk), whole)


@DTYPES
def test_bits_do_not_depend_on_the_other_sequences(dtype: torch.dtype) -> None:
    case = replace(CASES["grouped"], dtype=dtype)
    q, k, v = case.tokens()
    sequences, positions = case.places()
    table = page_table(case.lengths)
    together = run(case, table)
    for sequence in range(len(case.lengths)):
        own = sequences == sequence
        k_pool, v_pool = attention.pools(2, NUM_PAGES, case.num_key_heads, case.width, dtype)
        attention.write(k_pool, v_pool, k[own], v[own], slots_of(table, sequences[own], positions[own]))
        alone = attention.attend(q[own], k_pool, v_pool, table, sequences[own], positions[own], scale=case.width**-0.5)
        assert torch.equal(alone, together[own])


@DTYPES
def test_a_shared_prefix_is_as_good_as_an_own_one(dtype: torch.dtype) -> None:
    case = Case((100, 100), dtype=dtype)
    q, k, v = case.tokens()
    prefix = 2 * PAGE
    for x in (q, k, v):
        x[100 : 100 + prefix] = x[:prefix]
    sequences, positions = case.places()
    own = page_table(case.lengths)
    shared = own.clone()
    shared[1, :2] = shared[0, :2]
    outs = []
    for table, written in ((own, positions >= 0), (shared, (sequences == 0) | (positions >= prefix))):
        k_pool, v_pool = attention.pools(2, NUM_PAGES, case.num_key_heads, case.width, dtype)
        slots = slots_of(table, sequences, positions)
        attention.write(k_pool, v_pool, k[written], v[written], slots[written])
        outs.append(attention.attend(q, k_pool, v_pool, table, sequences, positions, scale=0.125))
    assert torch.equal(*outs)


def test_pages_out_of_the_window_are_not_touched() -> None:
    case = Case((150,), window=40)
    q, k, v = case.tokens()
    table = page_table(case.lengths)
    sequences, positions = case.places()
    k_pool, v_pool = attention.pools(2, NUM_PAGES, case.num_key_heads, case.width, case.dtype)
    attention.write(k_pool, v_pool, k, v, slots_of(table, sequences, positions))
    settings = {"scale": 0.125, "window": 40}
    last = slice(140, 150)  # sees positions 101 … 149: pages 3 and 4
    whole = attention.attend(q, k_pool, v_pool, table, sequences, positions, **settings)
    table[0, :3] = -1
    args = (q[last], k_pool, v_pool, table, sequences[last], positions[last])
    assert torch.equal(attention.attend(*args, **settings), whole[last])
    table[0, 3] = -1
    with pytest.raises(InternalError, match="not in the page table"):
        attention.attend(*args, **settings)


@DTYPES
def test_a_page_keeps_nothing_of_its_last_sequence(dtype: torch.dtype) -> None:
    case = Case((20,), dtype=dtype)
    assert torch.equal(run(case, page_table((20,)), dirt=float("inf")), run(case, page_table((20,)), dirt=0.0))


def test_what_is_not_a_number_stays_in_its_sequence() -> None:
    case = Case((40, 40))
    q, k, v = case.tokens()
    sequences, positions = case.places()
    table = page_table(case.lengths)
    k[10] = float("nan")
    k_pool, v_pool = attention.pools(2, NUM_PAGES, case.num_key_heads, case.width, case.dtype)
    attention.write(k_pool, v_pool, k, v, slots_of(table, sequences, positions))
    out = attention.attend(q, k_pool, v_pool, table, sequences, positions, scale=0.125)
    assert out[10:40].isnan().all() and not out[:10].isnan().any() and not out[40:].isnan().any()


def test_views_of_a_fused_product_are_read_where_they_lie() -> None:
    case = Case((50,))
    fused = torch.randn(50, (4 + 2 + 2) * 64, generator=torch.Generator().manual_seed(1))
    q, k, v = (x.unflatten(1, (-1, 64)) for x in fused.split([256, 128, 128], dim=1))
    sequences, positions = case.places()
    table = page_table(case.lengths)
    outs = []
    for tokens in (
        (q, k, v),
        (q.clone(), k.clone(), v.clone()),
        (q, k.transpose(1, 2).contiguous().transpose(1, 2), v),
    ):
        k_pool, v_pool = attention.pools(2, NUM_PAGES, 2, 64, torch.float32)
        attention.write(k_pool, v_pool, tokens[1], tokens[2], slots_of(table, sequences, positions))
        outs.append(attention.attend(tokens[0], k_pool, v_pool, table, sequences, positions, scale=0.125))
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="these have 320"):
        attention.pools(2, 1, 1, 320, torch.float32)
    with pytest.raises(UserError, match=r"in torch\.float16"):
        attention.pools(2, 1, 1, 64, torch.float16)
    case = Case((3,))
    q, _, _ = case.tokens()
    pools = attention.pools(2, 1, 2, 64, torch.float32)
    sequences, positions = case.places()
    with pytest.raises(InternalError, match="int32"):
        attention.attend(q, *pools, page_table((3,)).long(), sequences, positions, scale=1.0)
    with pytest.raises(InternalError, match="queries"):
        attention.attend(q.bfloat16(), *pools, page_table((3,)), sequences, positions, scale=1.0)
