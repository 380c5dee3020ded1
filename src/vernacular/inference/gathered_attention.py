"""Attention over pages with PyTorch's own product, on any device: the pages that queries look at are gathered first.

Sequences with as many queries each make one product, padded with pages that a mask hides. What is gathered and hidden
is the same in every layer, so it is worked out once per forward pass, without asking the device anything.

Shapes: S sequences, T queries of each, W pages, L = W · PAGE_TOKENS keys, H query heads, K key/value heads, C width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vernacular.inference.pages import PAGE_TOKENS
from vernacular.models.attention import Heads

MOST_GATHERED = 1 << 26
"""Most numbers of one layer's keys in one product."""
MOST_SCORES = 1 << 27
"""Most scores, query by key, in one product's mask."""


class Queries(NamedTuple):
    """Queries of one sequence that stand side by side.

    Attributes:
        first: place of the first in the forward pass.
        start: its position.
        count_T: how many.
        pages: the pages of the sequence from position 0 on.
    """

    first: int
    start: int
    count_T: int
    pages: NDArray[np.int32]


class _Product(NamedTuple):
    """Queries whose pages are gathered together."""

    tokens_N: Tensor
    pages_SW: Tensor
    mask: Tensor | None
    """Bool [S, 1, T, L], or a float bias [S, H, T, L]; None: causal, from position 0 on."""


class GatheredAttention:
    """Attention of one forward pass; a call per layer.

    Args:
        queries: all of them.
        heads: what the layers have in common.
        num_key_numbers: numbers of one token's keys, K · C.
        dtype: of the queries.
        device: where the pages are.
    """

    def __init__(
        self,
        queries: Sequence[Queries],
        heads: Heads,
        num_key_numbers: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._heads = heads
        self._dtype, self._device = dtype, device
        most_keys = max(1, MOST_GATHERED // num_key_numbers)
        pieces = sorted((piece for some in queries for piece in self._cut(some)), key=self._shape)
        self._products = [
            self._product(batch)
            for _, same in groupby(pieces, key=lambda piece: (piece.count_T, self._is_causal(piece)))
            for batch in self._batches(list(same), most_keys)
        ]

    def __call__(self, q_NHC: Tensor, k_pool: Tensor, v_pool: Tensor) -> Tensor:
        """What each token gathers, [N, H, C]; pools: [pages, PAGE_TOKENS, K, C]."""
        out_NHC = torch.empty_like(q_NHC)
        for tokens_N, pages_SW, mask in self._products:
            num_sequences = len(pages_SW)
            q_SHTC = q_NHC[tokens_N].unflatten(0, (num_sequences, -1)).transpose(1, 2)
            gathered_SHTC = attend_pages(q_SHTC, k_pool, v_pool, pages_SW, mask, self._heads)
            out_NHC[tokens_N] = gathered_SHTC.transpose(1, 2).flatten(0, 1)
        return out_NHC

    # ------------------------------------------------------------------------------------------ once per pass

    def _is_causal(self, piece: Queries) -> bool:
        """Whether the piece is a beginning of which each token looks at all before it."""
        window = self._heads.window
        sees_all = self._heads.slopes_H is None and (window is None or piece.count_T <= window)
        return piece.start == 0 and piece.count_T > 1 and sees_all

    def _cut(self, queries: Queries) -> Iterator[Queries]:
        """Pieces whose masks stay within bounds."""
        if self._is_causal(queries):
            yield queries
            return
        heads = 1 if self._heads.slopes_H is None else len(self._heads.slopes_H)
        most = max(1, MOST_SCORES // (heads * len(queries.pages) * PAGE_TOKENS))
        for offset in range(0, queries.count_T, most):
            count = min(most, queries.count_T - offset)
            yield Queries(queries.first + offset, queries.start + offset, count, queries.pages)

    def _span(self, piece: Queries) -> tuple[int, int]:
        """The first page that the piece looks at, and the one after its last."""
        return first_page(piece.start, self._heads.window), (piece.start + piece.count_T - 1) // PAGE_TOKENS + 1

    def _shape(self, piece: Queries) -> tuple[int, bool, int]:
        first, end = self._span(piece)
        return piece.count_T, self._is_causal(piece), end - first

    def _batches(self, pieces: Sequence[Queries], most_keys: int) -> Iterator[list[Queries]]:
        """Pieces, shortest first, that one product can take."""
        batch: list[Queries] = []
        for piece in pieces:
            count, _, width = self._shape(piece)
            num_keys = (len(batch) + 1) * width * PAGE_TOKENS
            if batch and (num_keys > most_keys or num_keys * count > MOST_SCORES):
                yield batch
                batch = []
            batch.append(piece)
        yield batch

    def _product(self, pieces: Sequence[Queries]) -> _Product:
        spans = [self._span(piece) for piece in pieces]
        pages_SW = np.zeros((len(pieces), max(end - first for first, end in spans)), dtype=np.int64)
        for row, (piece, (first, end)) in enumerate(zip(pieces, spans, strict=True)):
            pages_SW[row, : end - first] = piece.pages[first:end]
        count = pieces[0].count_T
        tokens_N = np.concatenate([np.arange(piece.first, piece.first + count) for piece in pieces])
        mask = None
        if not self._is_causal(pieces[0]):
            mask = self._mask(pieces, [first for first, _ in spans], pages_SW.shape[1])
        return _Product(torch.from_numpy(tokens_N).to(self._device), torch.from_numpy(pages_SW).to(self._device), mask)

    def _mask(self, pieces: Sequence[Queries], first_pages: Sequence[int], width: int) -> Tensor:
        starts_S1 = torch.tensor([[piece.start] for piece in pieces], device=self._device)
        firsts_S1 = torch.tensor([[first * PAGE_TOKENS] for first in first_pages], device=self._device)
        positions_ST = starts_S1 + torch.arange(pieces[0].count_T, device=self._device)
        return mask_of(positions_ST, firsts_S1, width, self._heads, self._dtype)


def first_page(position: int, window: int | None) -> int:
    """The first page that a token at this position looks at, counted in its sequence."""
    return 0 if window is None else max(0, position - window + 1) // PAGE_TOKENS


def mask_of(positions_ST: Tensor, firsts_S1: Tensor, width: int, heads: Heads, dtype: torch.dtype) -> Tensor:
    """What queries at these positions see of `width` pages whose first key is at `firsts_S1`.

    Bool [S, 1, T, L], or, with ALiBi, a bias [S, H, T, L] in `dtype`. It is worked out from tensors alone, so that the
    device is not asked for anything.
    """
    keys_S1L = (firsts_S1 + torch.arange(width * PAGE_TOKENS, device=firsts_S1.device))[:, None, :]
    distance_S1TL = (keys_S1L - positions_ST[:, :, None])[:, None]
    seen_S1TL = distance_S1TL <= 0
    if heads.window is not None:
        seen_S1TL &= distance_S1TL > -heads.window
    if heads.slopes_H is None:
        return seen_S1TL
    slopes_H11 = heads.slopes_H.to(firsts_S1.device)[:, None, None]
    return (slopes_H11 * distance_S1TL).masked_fill(~seen_S1TL, -torch.inf).to(dtype)


def attend_pages(
    q_SHTC: Tensor, k_pool: Tensor, v_pool: Tensor, pages_SW: Tensor, mask: Tensor | None, heads: Heads
) -> Tensor:
    """What the queries gather from their sequence's pages, [S, H, T, C].

    Args:
        q_SHTC: as many queries of each sequence.
        k_pool: keys, [pages, PAGE_TOKENS, K, C].
        v_pool: values, likewise.
        pages_SW: int64, each sequence's pages.
        mask: as `mask_of` returns it; None: causal, from the first key on.
        heads: what the layers have in common.
    """
    k_SKLC, v_SKLC = (pool[pages_SW].flatten(1, 2).transpose(1, 2) for pool in (k_pool, v_pool))
    num_heads, num_queries = q_SHTC.shape[1:3]
    num_key_heads = k_SKLC.shape[1]
    if mask is None:
        k_SKTC, v_SKTC = k_SKLC[:, :, :num_queries], v_SKLC[:, :, :num_queries]
        return functional.scaled_dot_product_attention(
            q_SHTC, k_SKTC, v_SKTC, is_causal=True, scale=heads.scale, enable_gqa=num_heads != num_key_heads
        )
    if num_queries == 1 and mask.shape[1] == 1:
        # The query heads of a key head stand for its tokens, so no key is copied.
        q_SKGC = q_SHTC.reshape(len(q_SHTC), num_key_heads, -1, q_SHTC.shape[-1])
        gathered_SKGC = functional.scaled_dot_product_attention(
            q_SKGC, k_SKLC, v_SKLC, attn_mask=mask.expand(-1, -1, q_SKGC.shape[2], -1), scale=heads.scale
        )
        return gathered_SKGC.reshape(q_SHTC.shape)
    # Copied here: with a mask and grouped queries at once PyTorch takes its slowest way.
    k_SHLC, v_SHLC = (x.repeat_interleave(num_heads // num_key_heads, dim=1) for x in (k_SKLC, v_SKLC))
    return functional.scaled_dot_product_attention(q_SHTC, k_SHLC, v_SHLC, attn_mask=mask, scale=heads.scale)
