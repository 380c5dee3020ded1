"""Attention on a GPU over rows that hold documents one after the other: flash attention, told where each begins.

Shapes: B batch, T tokens, N = B·T tokens in one row, H query heads, K key/value heads, C head width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from vernacular.models.attention import Heads


class DocumentAttend:
    """As `Attend`, over the tokens of a batch; a token sees its own document up to itself. No ALiBi, no window.

    A mask would hold B·T² bits and make every product whole; here documents cost what they are long.

    Args:
        documents_BT: a number per token, the same throughout a document.
        device: where the batch is computed with.
    """

    def __init__(self, documents_BT: NDArray[np.int64], device: torch.device) -> None:
        begins_BT = np.ones(documents_BT.shape, dtype=bool)
        begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
        begins = np.append(np.flatnonzero(begins_BT), documents_BT.size).astype(np.int32)
        self._begins = torch.from_numpy(begins).to(device)
        self._longest = documents_BT.shape[1]

    def __call__(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, heads: Heads) -> Tensor:
        """As `Attend`."""
        batch, num_heads, num_tokens, head_dim = q_BHTC.shape
        # Keys are copied for each of their queries' heads, as varlen_attn is not known to group them in every PyTorch.
        group = num_heads // k_BKTC.shape[1]
        k_BHTC, v_BHTC = (x.repeat_interleave(group, dim=1) if group > 1 else x for x in (k_BKTC, v_BKTC))
        q_NHC, k_NHC, v_NHC = (x.transpose(1, 2).flatten(0, 1) for x in (q_BHTC, k_BHTC, v_BHTC))
        gathered = varlen_attn(
            q_NHC,
            k_NHC,
            v_NHC,
            self._begins,
            self._begins,
            self._longest,
            self._longest,
            scale=heads.scale,
            window_size=(-1, 0),
        )
        assert isinstance(gathered, Tensor)
        return gathered.view(batch, num_tokens, num_heads, head_dim).transpose(1, 2)
