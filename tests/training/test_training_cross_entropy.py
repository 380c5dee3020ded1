"""Chunked cross-entropy equals the plain one, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vernacular.training.cross_entropy import chunked_cross_entropy


@pytest.mark.parametrize("chunk_tokens", [1, 7, 64, 1000])
@pytest.mark.parametrize("z_weight", [0.0, 0.05])
def test_loss_and_gradients_equal_the_unchunked_ones(chunk_tokens: int, z_weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(64, 24, generator=generator, requires_grad=True)
    head = torch.randn(50, 24, generator=generator, requires_grad=True)
    targets = torch.randint(0, 50, (64,), generator=generator)
    weights = torch.rand(64, generator=generator) * (torch.rand(64, generator=generator) > 0.3)

    logits = hidden @ head.T
    expected_squares = (logits.logsumexp(dim=1).square() * weights).sum()
    expected = (functional.cross_entropy(logits, targets, reduction="none") * weights).sum()
    expected = expected + z_weight * expected_squares
    (expected / 3).backward()
    gradients = hidden.grad.clone(), head.grad.clone()  # type: ignore[union-attr]
    hidden.grad = head.grad = None

    loss, correct, squares = chunked_cross_entropy(
        hidden, head, targets, weights, chunk_tokens=chunk_tokens, z_weight=z_weight
    )
    (loss / 3).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(squares, expected_squares)
    torch.testing.assert_close((hidden.grad, head.grad), gradients)
    torch.testing.assert_close(correct, weights[logits.argmax(1) == targets].sum())
    assert not correct.requires_grad


def test_tokens_of_weight_zero_do_not_count() -> None:
    hidden, head = torch.randn(5, 8, requires_grad=True), torch.randn(11, 8)
    weights = torch.tensor([0.0, 1.0, 0.0, 2.0, 0.0])
    loss, *_ = chunked_cross_entropy(hidden, head, torch.zeros(5, dtype=torch.long), weights, chunk_tokens=2)
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.abs().sum(1).gt(0).tolist() == [False, True, False, True, False]


def test_a_batch_without_weight_has_no_loss() -> None:
    loss, correct, _ = chunked_cross_entropy(
        torch.randn(3, 4, requires_grad=True),
        torch.randn(5, 4),
        torch.zeros(3, dtype=torch.long),
        torch.zeros(3),
        chunk_tokens=2,
    )
    loss.backward()
    assert loss.item() == 0
    assert correct.item() == 0


def test_chunks_of_bfloat16_add_up_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4096, 16, generator=generator).bfloat16()
    head = torch.nn.Parameter(0.1 * torch.randn(32, 16, generator=generator).bfloat16())
    head.grad_dtype = torch.float32
    targets = torch.randint(0, 32, (4096,), generator=generator)
    exact = head.detach().double().requires_grad_()
    functional.cross_entropy(hidden.double() @ exact.T, targets, reduction="sum").backward()
    assert exact.grad is not None
    distances = []
    for chunk_tokens in (4096, 32):
        head.grad = None
        chunked_cross_entropy(hidden, head, targets, torch.ones(4096), chunk_tokens=chunk_tokens).loss.backward()
        assert head.grad is not None
        distances.append(float((head.grad - exact.grad).norm() / exact.grad.norm()))
    assert max(distances) < 1.5 * min(distances)
