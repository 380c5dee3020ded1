"""The choice of the next token: repetition penalty, temperature, top-k, top-p, min-p, softmax, then the draw.

This is the order of Hugging Face's `generate`; the kept tokens and their probabilities are the same as there. All rows
are treated at once, each by its own settings, and none depends on another.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from vernacular.models.language_model import Sampling


def choose(logits_BV: Tensor, samplings: Sequence[Sampling], randoms: Sequence[random.Random]) -> Tensor:
    """The next token of each row, int64 [B].

    Args:
        logits_BV: float32 scores of the next token, after penalties and masks.
        samplings: each row's settings; a greedy row takes the best-scored token (the first of equals).
        randoms: each row's own source of chance, asked for one number per draw, so that what is drawn does not
            depend on the other rows.
    """
    tokens_B = logits_BV.argmax(dim=-1)
    rows = [row for row, sampling in enumerate(samplings) if not sampling.is_greedy]
    if rows:
        chance = [randoms[row].random() for row in rows]
        tokens_B[rows] = draw(probabilities(logits_BV[rows], [samplings[row] for row in rows]), chance)
    return tokens_B


def penalise(logits_BV: Tensor, seen_BV: Tensor, penalties: Sequence[float]) -> Tensor:
    """Scores of tokens that were seen, divided by the row's penalty where positive and multiplied where negative."""
    penalty_B1 = _column(penalties, logits_BV)
    penalised_BV = torch.where(logits_BV < 0, logits_BV * penalty_B1, logits_BV / penalty_B1)
    return torch.where(seen_BV, penalised_BV, logits_BV)


def probabilities(logits_BV: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """Probability of each token under the settings, float32 [B, V]; 0 for those cut off. None of them is greedy."""
    scores_BV = logits_BV / _column([sampling.temperature for sampling in samplings], logits_BV)
    rows = [row for row, sampling in enumerate(samplings) if sampling.top_k is not None]
    if rows:
        scores_BV[rows] = _keep_top_k(scores_BV[rows], [samplings[row].top_k or 0 for row in rows])
    rows = [row for row, sampling in enumerate(samplings) if sampling.top_p is not None and sampling.top_p < 1]
    if rows:
        scores_BV[rows] = _keep_top_p(scores_BV[rows], [samplings[row].top_p or 0 for row in rows])
    rows = [row for row, sampling in enumerate(samplings) if sampling.min_p]
    if rows:
        scores_BV[rows] = _keep_min_p(scores_BV[rows], [samplings[row].min_p or 0 for row in rows])
    return scores_BV.softmax(dim=-1)


def draw(probabilities_BV: Tensor, chance: Sequence[float]) -> Tensor:
    """The token at which the summed probabilities pass each row's number in [0, 1): int64 [B]."""
    # In double precision: single-precision sums over a large vocabulary would lose the rare tokens.
    sums_BV = probabilities_BV.double().cumsum(dim=-1)
    aim_B1 = torch.tensor(chance, dtype=torch.float64, device=sums_BV.device)[:, None] * sums_BV[:, -1:]
    return torch.searchsorted(sums_BV, aim_B1, right=True)[:, 0].clamp_max(sums_BV.shape[1] - 1)


def _keep_top_k(scores_BV: Tensor, top_k: Sequence[int]) -> Tensor:
    """The k best-scored tokens of each row, and those that score the same as the k-th."""
    most = scores_BV.shape[1]
    best_BK = scores_BV.topk(min(max(top_k), most), dim=-1).values
    last_B1 = torch.tensor([[min(k, most) - 1] for k in top_k], device=scores_BV.device)
    return scores_BV.masked_fill(scores_BV < best_BK.gather(1, last_B1), -torch.inf)


def _keep_top_p(scores_BV: Tensor, top_p: Sequence[float]) -> Tensor:
    """The fewest best-scored tokens whose probabilities reach `top_p`: at least one."""
    ascending_BV, order_BV = scores_BV.sort(dim=-1)
    cut_BV = ascending_BV.softmax(dim=-1).cumsum(dim=-1) <= _column([1 - p for p in top_p], scores_BV)
    cut_BV[:, -1] = False
    return scores_BV.masked_fill(cut_BV.scatter(1, order_BV, cut_BV), -torch.inf)


def _keep_min_p(scores_BV: Tensor, min_p: Sequence[float]) -> Tensor:
    """The tokens at least `min_p` times as probable as the best one."""
    probability_BV = scores_BV.softmax(dim=-1)
    least_B1 = _column(min_p, scores_BV) * probability_BV.amax(dim=-1, keepdim=True)
    return scores_BV.masked_fill(probability_BV < least_B1, -torch.inf)


def _column(values: Sequence[float], like_BV: Tensor) -> Tensor:
    """One number per row, [B, 1]."""
    return torch.tensor(values, dtype=like_BV.dtype, device=like_BV.device)[:, None]
