"""Linear layers in the memory order that a CPU multiplies fastest with few rows.

PyTorch keeps a weight as rows and lets the processor's library cope. oneDNN, which PyTorch carries, can store it in
blocks instead, once, when the weights are loaded: `benchmarks/decoding.py` shows what a batch of prompts gains.
Results differ by rounding only. Training and other devices keep the rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS_HINT = 16
"""For how many rows at once oneDNN is asked to choose its blocks; it does well from 2 to 512 with this choice."""


class PackedLinear(nn.Module):
    """A linear layer without bias whose weight lies in oneDNN's blocks."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS_HINT)
        self._multiply = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """`x · weightᵀ`: [..., in] to [..., out]."""
        return self._multiply(x, self._packed, None, "none", [], "")


def pack_linears(module: nn.Module) -> None:
    """Replace every linear layer below `module` by a packed one; each weight is freed as soon as it is copied.

    Does nothing where PyTorch was built without oneDNN. A weight shared with an embedding table stays there as well.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and child.bias is None:
            setattr(module, name, PackedLinear(child.weight))
        else:
            pack_linears(child)
