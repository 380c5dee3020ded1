"""Granite's losses are those of the published implementation, which is asked to compute them on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from vernacular.models.weights import load_decoder
from vernacular.training.batch import TensorBatch
from vernacular.training.objectives.next_token import next_token_loss

GRANITE = {
    "family": "granite",
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.125,
    "residual_multiplier": 0.22,
    "logits_scaling": 6.0,
    "tie_embeddings": True,
    "initializer_range": 0.1,
}
EXPERTS = {**GRANITE, "family": "granitemoe", "feed_forward": "experts", "num_experts": 5, "experts_per_token": 2}


def theirs(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def batch_of(ids_BT: torch.Tensor) -> TensorBatch:
    """Rows in which each token's successor is its target; the last token has none."""
    weights = torch.ones(ids_BT.shape)
    weights[:, -1] = 0
    positions = torch.arange(ids_BT.shape[1]).expand_as(ids_BT)
    return TensorBatch(
        ids_BT, ids_BT.roll(-1, dims=1), weights, positions, None, torch.ones_like(ids_BT, dtype=torch.bool), list
    )


@pytest.fixture(scope="module")
def ids_BT() -> torch.Tensor:
    return torch.randint(3, tiny.VOCAB_SIZE, (3, 20), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("shape", [GRANITE, EXPERTS], ids=["dense", "experts"])
def test_the_loss_and_its_gradients_know_the_logits_scaling(
    shape: dict[str, Any], tmp_path: Path, tokenizer: Path, ids_BT: torch.Tensor
) -> None:
    folder = tiny.make_weights(tmp_path / "granite", tokenizer, **shape)
    decoder, reference = load_decoder(folder), theirs(folder)
    expected = reference(ids_BT, labels=ids_BT).loss
    expected.backward()

    batch = batch_of(ids_BT)
    loss = next_token_loss(decoder, batch, chunk_tokens=16).total / batch.weights_BT.sum()
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        decoder.embedding.weight.grad, reference.model.embed_tokens.weight.grad, rtol=1e-4, atol=1e-6
    )
