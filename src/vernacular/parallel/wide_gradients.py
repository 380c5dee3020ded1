"""Gradients of sharded bfloat16 weights, added up and kept in float32.

FSDP2 gives a gradient the precision of its weight, on every rank and after the sum over ranks. A weight may ask for
another (`grad_dtype`); what follows hands that wish on to the two weights that FSDP2 makes of one: the whole one of the
passes, and the rank's own part.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam
from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup


class _Group(FSDPParamGroup):
    """Weights that travel together; their summed gradients are not rounded."""

    def _init_mp_dtypes(self) -> None:
        super()._init_mp_dtypes()
        self._orig_dtype = torch.float32  # read for nothing else than what the sum is rounded to


class _Weight(FSDPParam):
    """A weight whose gradient adds up in float32 over micro-batches."""

    def init_unsharded_param(self) -> None:
        """Make the whole weight of the passes, once its parts are gathered."""
        super().init_unsharded_param()
        self._unsharded_param.grad_dtype = torch.float32


def is_narrow(decoder: nn.Module) -> bool:
    """Whether a decoder's weights are bfloat16."""
    return any(weight.dtype == torch.bfloat16 for weight in decoder.parameters())


def widen_gradients(decoder: nn.Module) -> None:
    """Keep the gradients of a decoder's weights in float32, sharded or not."""
    for module in decoder.modules():
        if isinstance(module, FSDPModule):
            for group in module._get_fsdp_state()._fsdp_param_groups:
                group.__class__ = _Group
                for weight in group.fsdp_params:
                    weight.__class__ = _Weight
    for parameter in decoder.parameters():
        parameter.grad_dtype = torch.float32
