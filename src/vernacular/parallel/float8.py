"""Products in float8 on GPUs that have it, through torchao: weights and inputs scaled tensor by tensor as they come."""

from __future__ import annotations

from torch import nn

from vernacular.foundation.errors import missing_extra
from vernacular.models.decoder import Decoder

_MULTIPLE = 16  # of both sides of a matrix, for the GPU's float8 product


def apply_float8(decoder: Decoder) -> None:
    """Replace the blocks' linear layers, routers apart, in place. Head and embedding keep their precision.

    Raises:
        MachineError: torchao is not installed.
    """
    try:
        from torchao.float8 import convert_to_float8_training
    except ImportError as error:
        raise missing_extra("torchao", "torchao", "training in float8") from error
    convert_to_float8_training(decoder.blocks, module_filter_fn=_is_converted)


def _is_converted(module: nn.Module, name: str) -> bool:
    if not isinstance(module, nn.Linear) or name.endswith("router"):
        return False
    return module.in_features % _MULTIPLE == 0 and module.out_features % _MULTIPLE == 0
