"""A packed batch as tensors, with the mask that keeps documents apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vernacular.kernels.cross_entropy import cross_entropy_rows
from vernacular.models.attention import Attend
from vernacular.models.document_attention import DocumentAttend
from vernacular.models.training_kernels import NativeAttend
from vernacular.tokens.packing import Batch
from vernacular.training.cross_entropy import Score


@dataclass(frozen=True)
class TensorBatch:
    """Rows of a step on the training device.

    Attributes:
        ids_BT: tokens, int64.
        targets_BT: the token after each, int64.
        weights_BT: loss weight of each target, float32; 0 at padding.
        positions_BT: position within the document, int64.
        mask_B1TT: True where a token may look at another of its document; None = plain causal, or `attend` knows.
        is_text_BT: False at padding.
        names: gives the documents' ids, for naming them in an error.
        attend: how queries meet keys where kernels know documents; None = as PyTorch does it, by the mask.
        score: what turns logits into gradients; None = PyTorch, op by op.
    """

    ids_BT: Tensor
    targets_BT: Tensor
    weights_BT: Tensor
    positions_BT: Tensor
    mask_B1TT: Tensor | None
    is_text_BT: Tensor
    names: Callable[[], Sequence[str]]
    attend: Attend | None = None
    score: Score | None = None


def to_tensors(
    batch: Batch,
    device: torch.device,
    *,
    document_mask: bool,
    native: bool = False,
    flash: bool = False,
    score: Score | None = None,
) -> TensorBatch:
    """Move a batch to the device.

    Without a document mask, positions run through the row and a token sees all before it in the row.

    Args:
        batch: the rows.
        device: where they are computed with.
        document_mask: whether documents are kept apart.
        native: the CPU kernels keep them apart, without a mask, and turn logits into gradients.
        flash: flash attention keeps them apart, without a mask: on a GPU, in bfloat16.
        score: what else turns logits into gradients.
    """
    documents_BT = torch.from_numpy(batch.documents_BT).to(device)
    num_tokens = documents_BT.shape[1]
    positions_BT = torch.from_numpy(batch.positions_BT).to(device)
    mask: Tensor | None = None
    attend: Attend | None = None
    if native:
        attend = NativeAttend(documents_BT if document_mask else torch.zeros_like(documents_BT))
    elif document_mask and flash:
        attend = DocumentAttend(batch.documents_BT, device)
    elif document_mask:
        causal_TT = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=device).tril()
        mask = ((documents_BT[:, :, None] == documents_BT[:, None, :]) & causal_TT)[:, None]
    if not document_mask:
        positions_BT = torch.arange(num_tokens, device=device).expand_as(positions_BT)
    return TensorBatch(
        ids_BT=torch.from_numpy(batch.ids_BT).to(device),
        targets_BT=torch.from_numpy(batch.targets_BT).to(device),
        weights_BT=torch.from_numpy(batch.weights_BT).to(device),
        positions_BT=positions_BT,
        mask_B1TT=mask,
        is_text_BT=documents_BT >= 0,
        names=batch.document_names,
        attend=attend,
        score=cross_entropy_rows if native else score,
    )


def num_text_tokens(batch: Batch) -> int:
    """Tokens that are no padding."""
    return int((batch.documents_BT >= 0).sum())
