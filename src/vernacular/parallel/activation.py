"""Activation checkpointing: what a block's backward pass computes again instead of keeping."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from vernacular.models.decoder import Decoder
from vernacular.parallel.configuration import ActivationCheckpointing

# What is dear to compute and is kept by `selective`: products, attention, and what travelled between ranks.
_KEPT = {
    torch.ops.aten.mm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten._grouped_mm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops._c10d_functional.reduce_scatter_tensor.default,
    torch.ops._c10d_functional.all_to_all_single.default,
}


def apply_checkpointing(decoder: Decoder, mode: ActivationCheckpointing) -> None:
    """Let every block keep less: `full` only its input, `selective` also its products; `none` changes nothing."""
    if mode == "none":
        return
    settings: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    if mode == "selective":
        settings["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    for block in decoder.blocks:
        block.forward = partial(checkpoint, block.forward, **settings)


def _policy(context: Any, operation: Any, *arguments: Any, **named: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
