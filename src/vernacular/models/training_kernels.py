"""A decoder's arithmetic in training, on a CPU, by the kernels of this machine instead of PyTorch's.

The parameters stay where they are, and what they are called: only the functions between the matrix products change,
and how queries meet keys.
"""

from __future__ import annotations

from torch import Tensor

from vernacular.kernels import training_attention, training_experts, training_rows
from vernacular.models.attention import Attention, Heads
from vernacular.models.decoder import Block, Decoder
from vernacular.models.feed_forward import ACTIVATIONS, Experts, Gate
from vernacular.models.norm import LayerNorm, RmsNorm

# What is measured to be faster than PyTorch's own (docs/LOG.md); other activations are PyTorch's with either kernels.
_ACTIVATION = "silu"


def use_native_kernels(decoder: Decoder) -> None:
    """Have norms, rotations, gates, experts and residual sums of `decoder` computed by the kernels, from now on."""
    for module in decoder.modules():
        if isinstance(module, RmsNorm):
            module.normalise = training_rows.rms_norm
        elif isinstance(module, LayerNorm):
            module.normalise = training_rows.layer_norm
        elif isinstance(module, Attention):
            module.rotate = training_rows.rotate
        elif isinstance(module, Gate) and module.name == _ACTIVATION:
            module.multiply = training_rows.gated_silu
        elif isinstance(module, Experts) and module.activation is ACTIVATIONS[_ACTIVATION]:
            module.answer = training_experts.experts
        elif isinstance(module, Block):
            module.add = training_rows.add


class NativeAttend:
    """As `Attend`, over the tokens of a batch whose rows hold documents one after the other.

    Args:
        documents_BT: a number per token, the same throughout a document; a token sees its own document up to itself.
    """

    def __init__(self, documents_BT: Tensor) -> None:
        self._documents_BT = documents_BT
        self._first_BT: Tensor | None = None

    def __call__(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, heads: Heads) -> Tensor:
        """As `Attend`."""
        if self._first_BT is None:
            self._first_BT = training_attention.first_visible(self._documents_BT, heads.window)
        q, k, v = (x.transpose(1, 2) for x in (q_BHTC, k_BKTC, v_BKTC))
        gathered_BTHC = training_attention.attend(q, k, v, self._first_BT, scale=heads.scale, slopes_H=heads.slopes_H)
        return gathered_BTHC.transpose(1, 2)
