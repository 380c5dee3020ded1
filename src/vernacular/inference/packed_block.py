"""A block as the engine computes it on a CPU: one call for all tokens of a pass.

It computes what `models.decoder.Block` does, and rounds as its packed parts do: in float32 nowhere, in bfloat16 and
8 bits where a product's result is stored. Where a step is one token, calls are what it waits for; where it is
thousands, what stands between two products stays in the cache.
"""

from __future__ import annotations

from torch import Tensor, nn

from vernacular.inference.packed_attention import PackedAttention
from vernacular.inference.paged_memory import PagedAttend
from vernacular.kernels.block import BlockArgument
from vernacular.kernels.feed_forward import PackedGatedFeedForward
from vernacular.kernels.rows import PackedNorm
from vernacular.models.attention import Attend, Heads
from vernacular.models.decoder import Block


def packed_block(parts: Block) -> nn.Module:
    """What stands for a block whose parts are packed: one call if they are those that the kernel knows, else they.

    It knows a gated feed-forward, projections that are not clipped, and even widths.
    """
    attention, feed_forward = parts.attention, parts.feed_forward
    norms = parts.attention_norm, parts.feed_forward_norm
    if not isinstance(attention, PackedAttention) or not isinstance(feed_forward, PackedGatedFeedForward):
        return parts
    if not isinstance(norms[0], PackedNorm) or not isinstance(norms[1], PackedNorm) or attention.clip is not None:
        return parts
    products = attention.project, attention.output, feed_forward.gates, feed_forward.down
    if any(product.in_features % 2 for product in products):
        return parts
    argument = BlockArgument(
        *(product.argument for product in products),
        *(norm.argument for norm in norms),
        *(attention.output.out_features, feed_forward.down.in_features),
        *(attention.num_heads, attention.num_key_heads, attention.head_dim),
        parts.residual_multiplier,
    )
    return PackedBlock(parts, argument)


class PackedBlock(nn.Module):
    """A `Block` in one call where it attends over pages; its input is then overwritten.

    Args:
        parts: what it stands for.
        argument: the same, as the kernel takes it.
    """

    def __init__(self, parts: Block, argument: BlockArgument) -> None:
        super().__init__()
        self._parts, self._argument = parts, argument

    def forward(self, x_BTD: Tensor, angles: tuple[Tensor, Tensor] | None, attend: Attend, heads: Heads) -> Tensor:
        """As `Block`."""
        if isinstance(attend, PagedAttend) and attend.is_native:
            attend.run(self._parts.layer, self._argument, x_BTD, angles, heads)
            return x_BTD
        y_BTD: Tensor = self._parts(x_BTD, angles, attend, heads)
        return y_BTD
