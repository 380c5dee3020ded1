"""Keys and values in pages, and the attention that reads them there.

Shapes: N tokens of many sequences side by side, S sequences, P pages of the longest one, H query heads, K key/value
heads, C head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vernacular.foundation.errors import unknown_name
from vernacular.inference.gathered_attention import GatheredAttention, Queries
from vernacular.inference.pages import PAGE_TOKENS
from vernacular.kernels.block import BlockArgument, PassArgument, run_block
from vernacular.models.attention import Heads
from vernacular.models.configuration import DecoderConfiguration

Kernels = Literal["native", "torch"]
KERNELS = ("native", "torch")


class PagedMemory:
    """Memory of `num_pages` pages in every layer.

    Args:
        configuration: of the decoder whose keys and values these are.
        num_pages: how many.
        dtype: of keys and values: that of the decoder's activations.
        device: where they are.
        kernels: "native", our own, on a CPU; "torch", PyTorch's, anywhere.
        is_lasting: whether it is held for longer than a call.

    Attributes:
        padding_page: a page beyond these, for rows that are no sequence's; PyTorch's kernels only.
    """

    def __init__(
        self,
        configuration: DecoderConfiguration,
        num_pages: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        kernels: str = "torch",
        *,
        is_lasting: bool = True,
    ) -> None:
        self.kernels = _kernels(kernels)
        self.is_native = kernels == "native"
        self.padding_page = num_pages
        all_pages = num_pages if self.is_native else num_pages + 1
        shape = (all_pages, configuration.num_key_value_heads, configuration.head_dim, dtype)
        where = {"is_lasting": is_lasting} if self.is_native else {"device": device}
        pools = self.kernels.pools(2 * configuration.num_layers, *shape, **where)
        self.layers: list[tuple[Tensor, Tensor]] = list(zip(pools[::2], pools[1::2], strict=True))


class Placed(NamedTuple):
    """Tokens of one sequence in a forward pass.

    Attributes:
        start: position of the first of them.
        num_tokens: how many.
        pages: int32, the pages of the sequence from position 0 on.
        borrowed: tokens of the same pass, by their place in it, that stand right before them and belong to another
            sequence: their keys and values go into this one's pages too.
    """

    start: int
    num_tokens: int
    pages: NDArray[np.int32]
    borrowed: range = range(0)


@dataclass(frozen=True)
class Placement:
    """Where the tokens of a forward pass stand, on the device.

    Attributes:
        positions_N: int32, each token's position in its sequence.
        sequences_N: int32, each token's row in `table_SP`. Tokens of a sequence stand side by side.
        table_SP: int32, the pages of each sequence; negative for one that is never looked at.
        slots_M: int64, where keys and values go: page · PAGE_TOKENS + place in it.
        written_M: int64, whose go there; None where M is N and each token's go to one place.
        queries: the same, sequence by sequence, on the host.
    """

    positions_N: Tensor
    sequences_N: Tensor
    table_SP: Tensor
    slots_M: Tensor
    written_M: Tensor | None
    queries: Sequence[Queries]

    @classmethod
    def of(cls, sequences: Sequence[Placed], device: torch.device | str = "cpu") -> Placement:
        """Of the tokens of these sequences, side by side."""
        counts_S = np.array([some.num_tokens for some in sequences])
        starts_S = np.array([some.start for some in sequences])
        table_SP = np.full((len(sequences), max(len(some.pages) for some in sequences)), -1, dtype=np.int32)
        for row, some in enumerate(sequences):
            table_SP[row, : len(some.pages)] = some.pages
        before_S = np.cumsum(counts_S) - counts_S
        sequences_N = np.repeat(np.arange(len(sequences)), counts_S)
        positions_N = np.arange(len(sequences_N)) + np.repeat(starts_S - before_S, counts_S)
        rows_M, positions_M, written_M = sequences_N, positions_N, None
        if any(some.borrowed for some in sequences):
            borrowed_S = np.array([len(some.borrowed) for some in sequences])
            parts = [
                np.arange(part.start, part.stop)
                for before, some in zip(before_S.tolist(), sequences, strict=True)
                for part in (some.borrowed, range(before, before + some.num_tokens))
            ]
            written_M = np.concatenate(parts)
            rows_M = np.repeat(np.arange(len(sequences)), counts_S + borrowed_S)
            positions_M = positions_N[written_M]
        slots_M = table_SP[rows_M, positions_M // PAGE_TOKENS].astype(np.int64) * PAGE_TOKENS
        return cls(
            torch.from_numpy(positions_N.astype(np.int32)).to(device),
            torch.from_numpy(sequences_N.astype(np.int32)).to(device),
            torch.from_numpy(table_SP).to(device),
            torch.from_numpy(slots_M + positions_M % PAGE_TOKENS).to(device),
            None if written_M is None else torch.from_numpy(written_M).to(device),
            [
                Queries(before, some.start, some.num_tokens, table_SP[row])
                for row, (before, some) in enumerate(zip(before_S.tolist(), sequences, strict=True))
            ],
        )


class PagedAttend:
    """`Attend` for one forward pass over the tokens of many sequences in one row, [1, N].

    Args:
        memory: where keys and values are.
        placement: where the tokens stand.
    """

    def __init__(self, memory: PagedMemory, placement: Placement) -> None:
        self._memory, self._placement = memory, placement
        self._gathered: GatheredAttention | None = None
        self._tokens: tuple[PassArgument, object] | None = None

    @property
    def is_native(self) -> bool:
        """Whether whole blocks can be run."""
        return self._memory.is_native

    def run(
        self,
        layer: int,
        block: BlockArgument,
        x_1ND: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        heads: Heads,
    ) -> None:
        """A whole block, in place; the native kernels only. Angles and heads are the same for all layers."""
        if self._tokens is None:
            place = self._placement
            tables = place.table_SP, place.sequences_N, place.positions_N, place.slots_M, place.written_M
            tokens = PassArgument.of(
                self._memory.layers[0][0],
                *tables,
                angles,
                scale=heads.scale,
                window=heads.window or 0,
                slopes_H=heads.slopes_H,
            )
            self._tokens = tokens, angles  # whose memory is read
        run_block(block, self._tokens[0], *self._memory.layers[layer], x_1ND)

    def __call__(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, heads: Heads) -> Tensor:
        """As `Attend`."""
        q_NHC, k_NKC, v_NKC = (x[0].transpose(0, 1) for x in (q_BHTC, k_BKTC, v_BKTC))
        return self.tokens(layer, q_NHC, k_NKC, v_NKC, heads).transpose(0, 1)[None]

    def tokens(self, layer: int, q_NHC: Tensor, k_NKC: Tensor, v_NKC: Tensor, heads: Heads) -> Tensor:
        """The same of tokens side by side, [N, H, C]: all keys of the layer are written, then the queries look."""
        k_pool, v_pool = self._memory.layers[layer]
        place = self._placement
        self._memory.kernels.write(k_pool, v_pool, k_NKC, v_NKC, place.slots_M, place.written_M)
        attend = self._native if self._memory.is_native else self._torch
        return attend(q_NHC, k_pool, v_pool, heads)

    def _native(self, q_NHC: Tensor, k_pool: Tensor, v_pool: Tensor, heads: Heads) -> Tensor:
        place = self._placement
        gathered_NHC: Tensor = self._memory.kernels.attend(
            q_NHC,
            k_pool,
            v_pool,
            place.table_SP,
            place.sequences_N,
            place.positions_N,
            scale=heads.scale,
            window=heads.window or 0,
            slopes_H=heads.slopes_H,
        )
        return gathered_NHC

    def _torch(self, q_NHC: Tensor, k_pool: Tensor, v_pool: Tensor, heads: Heads) -> Tensor:
        if self._gathered is None:
            self._gathered = GatheredAttention(
                self._placement.queries, heads, k_pool[0, 0].numel(), q_NHC.dtype, q_NHC.device
            )
        return self._gathered(q_NHC, k_pool, v_pool)


def _kernels(name: str) -> ModuleType:
    if name == "native":
        from vernacular.kernels import attention

        return attention
    if name == "torch":
        from vernacular.kernels import reference

        return reference
    raise unknown_name("kernels", name, KERNELS)
