"""Attention as the engine computes it on a CPU: one product for queries, keys and values, which stay where it put them.

The same arithmetic as `models.attention.Attention`, in far fewer calls: where a step is one token, calls are what it
waits for.
"""

from __future__ import annotations

from torch import Tensor, nn

from vernacular.inference.paged_memory import PagedAttend
from vernacular.kernels.linear import PackedLinear
from vernacular.kernels.rows import rotate
from vernacular.models.attention import Attend, Attention, Heads


class PackedAttention(nn.Module):
    """`Attention` over packed weights.

    Args:
        attention: what it stands for.
        format: of the weights.
    """

    def __init__(self, attention: Attention, format: str) -> None:
        super().__init__()
        weights = [linear.weight for linear in attention.project.linears()]
        self.clip, self.head_dim = attention.clip, attention.head_dim
        self.num_heads, self.num_key_heads = (len(weight) // attention.head_dim for weight in weights[:2])
        self.project = PackedLinear(weights, format)
        self.output = PackedLinear(attention.output.weight, format)

    def forward(
        self, x_BTD: Tensor, angles: tuple[Tensor, Tensor] | None, attend: Attend, layer: int, heads: Heads
    ) -> Tensor:
        """As `Attention`: what each token gathers, [B, T, D]."""
        batch, num_tokens, _ = x_BTD.shape
        projected = self.project(x_BTD)
        if self.clip is not None:
            projected.clamp_(-self.clip, self.clip)
        # A token's heads side by side: queries, then keys, then values.
        all_NHC = projected.view(batch * num_tokens, -1, self.head_dim)
        keys, values = self.num_heads, self.num_heads + self.num_key_heads
        if angles is not None:
            rotate(all_NHC[:, :values], *angles)
        q_NHC, k_NKC, v_NKC = all_NHC[:, :keys], all_NHC[:, keys:values], all_NHC[:, values:]
        if isinstance(attend, PagedAttend):
            gathered = attend.tokens(layer, q_NHC, k_NKC, v_NKC, heads)
        else:
            q_BHTC, k_BKTC, v_BKTC = (
                part.unflatten(0, (batch, num_tokens)).transpose(1, 2) for part in (q_NHC, k_NKC, v_NKC)
            )
            gathered = attend(layer, q_BHTC, k_BKTC, v_BKTC, heads).transpose(1, 2)
        return self.output(gathered.reshape(batch, num_tokens, -1))
