"""What rows of scores over the vocabulary come to: right, the same bits whether they were written or not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vernacular.foundation.errors import InternalError
from vernacular.kernels.linear import ACTIVATIONS, FORMATS, PackedLinear
from vernacular.kernels.scores import score_product, score_rows

VOCABULARIES = (7, 211, 4096, 9000)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_normalisers_and_best_tokens(vocabulary: int) -> None:
    scores = 8 * drawn(5, vocabulary)
    scores[1, 2] = scores[1, 5] = 90.0  # of equals the first is the best
    scores[2, : vocabulary - 1] = -torch.inf  # what may not be chosen
    found = score_rows(scores)
    assert torch.allclose(found.normalisers_R.double(), scores.double().logsumexp(-1), rtol=1e-6, atol=0)
    assert found.best_R.tolist() == [
        *scores[:1].argmax(-1).tolist(),
        2,
        vocabulary - 1,
        *scores[3:].argmax(-1).tolist(),
    ]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_scores_that_are_not_written_are_the_same_bits(format: str, vocabulary: int) -> None:
    head = PackedLinear(drawn(vocabulary, 96), format)
    x = drawn(300, 96, seed=1).to(ACTIVATIONS[format])
    # No token of the first row is asked for, one of the second, two of the third.
    each = torch.arange(300) % 3
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), each.cumsum(0)))
    tokens = torch.randint(vocabulary, (int(each.sum()),), generator=torch.Generator().manual_seed(2))
    for scaling in (1.0, 0.3):
        scores = head(x).float() / scaling
        expected, found = score_rows(scores), score_product(head, x, starts, tokens, scaling=scaling)
        assert torch.equal(found.normalisers_R, expected.normalisers_R)
        assert torch.equal(found.best_R, expected.best_R)
        assert torch.equal(found.scores_K, scores[torch.arange(300).repeat_interleave(each), tokens])
    for row in (0, 40, 299):
        alone = score_product(head, x[row : row + 1])
        assert torch.equal(alone.normalisers_R, score_product(head, x).normalisers_R[row : row + 1])
    assert torch.equal(score_rows(head(x)).normalisers_R, score_rows(head(x).float()).normalisers_R)


def test_threads_do_not_show() -> None:
    head, x = PackedLinear(drawn(9000, 64), "bfloat16"), drawn(20, 64, seed=1).bfloat16()
    before, alone = torch.get_num_threads(), score_product(head, x)
    torch.set_num_threads(3)
    together = score_product(head, x)
    torch.set_num_threads(before)
    assert torch.equal(alone.normalisers_R, together.normalisers_R)
    assert torch.equal(alone.best_R, together.best_R)


def test_a_row_that_is_not_numbers_has_no_best_token() -> None:
    scores = drawn(5, 5000)
    scores[1, 4800] = torch.nan
    scores[2] = torch.nan
    scores[3, 4800] = torch.inf
    scores[4] = -torch.inf
    found = score_rows(scores)
    assert found.best_R.tolist() == [int(scores[0].argmax()), -1, -1, -1, -1]
    assert found.normalisers_R.isnan().tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("token", [-1, 100, 5000])
def test_a_token_that_the_vocabulary_has_not_is_refused(token: int) -> None:
    head = PackedLinear(drawn(100, 32), "float32")
    with pytest.raises(InternalError, match=r"100 tokens"):
        score_product(head, drawn(1, 32), torch.tensor([0, 2]), torch.tensor([99, token]))
