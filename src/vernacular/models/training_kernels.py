"""A decoder's arithmetic in training, on a CPU, by the kernels of this machine instead of PyTorch's.

The parameters stay where they are, and what they are called: only the functions between the matrix products change,
and how queries meet keys.
"""

from __future__ import annotations

from torch import Tensor

from vernacular.foundation.errors import UserError
from vernacular.kernels import training_attention, training_experts, training_rows
from vernacular.models.attention import Attention, Heads
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Block, Decoder
from vernacular.models.feed_forward import Experts, Gate
from vernacular.models.norm import LayerNorm, RmsNorm

# What is measured to be faster than PyTorch's own (docs/LOG.md); other activations are PyTorch's with either kernels.
_ACTIVATION = "silu"


def use_native_kernels(decoder: Decoder) -> None:
    """Have norms, rotations, gates, experts and residual sums of `decoder` computed by the kernels, from now on.

    Raises `UserError` where the decoder has something they cannot compute.
    """
    _check(decoder.configuration)
    for module in decoder.modules():
        if isinstance(module, RmsNorm):
            module.normalise = training_rows.rms_norm
        elif isinstance(module, LayerNorm):
            module.normalise = training_rows.layer_norm
        elif isinstance(module, Attention):
            module.rotate = training_rows.rotate
        elif isinstance(module, Gate) and module.name == _ACTIVATION:
            module.multiply = training_rows.gated_silu
        elif isinstance(module, Experts):
            module.answer = training_experts.experts
        elif isinstance(module, Block):
            module.add = training_rows.add


def _check(configuration: DecoderConfiguration) -> None:
    cannot, widest = None, training_attention.MAX_WIDTH
    if configuration.head_dim > widest or configuration.head_dim % 2:
        cannot = f"heads of even width up to {widest}; these have {configuration.head_dim} numbers"
    elif configuration.feed_forward == "experts" and configuration.activation != _ACTIVATION:
        cannot = f"experts with the activation {_ACTIVATION}; these have {configuration.activation}"
    if cannot:
        raise UserError(f"the CPU kernels train {cannot}", where="kernels", fix="set kernels: torch")


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
