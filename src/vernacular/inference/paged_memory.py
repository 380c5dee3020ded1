"""Keys and values in pages, and the attention that reads them there.

Shapes: N tokens of many sequences side by side, S sequences, P pages of the longest one, H query heads, K key/value
heads, C head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vernacular.foundation.errors import unknown_name
from vernacular.inference.pages import PAGE_TOKENS
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
    """

    def __init__(
        self,
        configuration: DecoderConfiguration,
        num_pages: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        kernels: str = "torch",
    ) -> None:
        self.kernels = _kernels(kernels)
        shape = (num_pages, configuration.num_key_value_heads, configuration.head_dim, dtype)
        where = {} if kernels == "native" else {"device": device}
        self.layers: list[tuple[Tensor, Tensor]] = [
            (self.kernels.pool(*shape, **where), self.kernels.pool(*shape, **where))
            for _ in range(configuration.num_layers)
        ]


@dataclass(frozen=True)
class Placement:
    """Where the tokens of a forward pass stand, on the device.

    Attributes:
        positions_N: int32, each token's position in its sequence.
        sequences_N: int32, each token's row in `table_SP`. Tokens of a sequence stand side by side.
        table_SP: int32, the pages of each sequence; negative for one that is never looked at.
        slots_M: int64, where keys and values go: page · PAGE_TOKENS + place in it.
        written_M: int64, which token's; None where M is N and each token's go to one place.
    """

    positions_N: Tensor
    sequences_N: Tensor
    table_SP: Tensor
    slots_M: Tensor
    written_M: Tensor | None = None

    @classmethod
    def of(
        cls,
        starts: Sequence[int],
        counts: Sequence[int],
        pages: Sequence[NDArray[np.int32]],
        device: torch.device | str = "cpu",
    ) -> Placement:
        """Of `counts[s]` tokens of each sequence s, from position `starts[s]` on, whose pages are `pages[s]`."""
        counts_S = np.asarray(counts)
        sequences_N = np.repeat(np.arange(len(counts_S)), counts_S)
        before_S = np.cumsum(counts_S) - counts_S
        positions_N = np.arange(len(sequences_N)) + np.repeat(np.asarray(starts) - before_S, counts_S)
        table_SP = np.full((len(pages), max(map(len, pages))), -1, dtype=np.int32)
        for row, some in enumerate(pages):
            table_SP[row, : len(some)] = some
        pages_N = table_SP[sequences_N, positions_N // PAGE_TOKENS].astype(np.int64)
        return cls(
            torch.from_numpy(positions_N.astype(np.int32)).to(device),
            torch.from_numpy(sequences_N.astype(np.int32)).to(device),
            torch.from_numpy(table_SP).to(device),
            torch.from_numpy(pages_N * PAGE_TOKENS + positions_N % PAGE_TOKENS).to(device),
        )


class PagedAttend:
    """`Attend` for one forward pass over the tokens of many sequences in one row, [1, N]."""

    def __init__(self, memory: PagedMemory, placement: Placement) -> None:
        self._memory, self._placement = memory, placement

    def __call__(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, heads: Heads) -> Tensor:
        """As `Attend`: all keys of the layer are written, then the queries look."""
        place, kernels = self._placement, self._memory.kernels
        k_pool, v_pool = self._memory.layers[layer]
        q_NHC, k_NKC, v_NKC = (x[0].transpose(0, 1) for x in (q_BHTC, k_BKTC, v_BKTC))
        if place.written_M is not None:
            k_NKC, v_NKC = k_NKC[place.written_M], v_NKC[place.written_M]
        kernels.write(k_pool, v_pool, k_NKC, v_NKC, place.slots_M)
        gathered_NHC: Tensor = kernels.attend(
            q_NHC,
            k_pool,
            v_pool,
            place.table_SP,
            place.sequences_N,
            place.positions_N,
            scale=heads.scale,
            window=heads.window or 0,
            slopes_H=None if heads.slopes_H is None else heads.slopes_H.to(q_NHC.device),
        )
        return gathered_NHC.transpose(0, 1)[None]


def _kernels(name: str) -> ModuleType:
    if name == "native":
        from vernacular.inference.kernels import attention

        return attention
    if name == "torch":
        from vernacular.inference.kernels import reference

        return reference
    raise unknown_name("kernels", name, KERNELS)
