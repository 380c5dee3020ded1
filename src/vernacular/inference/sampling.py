"""The choice of the next token: temperature, then top-k, then top-p, then softmax, then the draw.

This is the order of Hugging Face's `generate`; the kept tokens and their probabilities are the same as there.
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
        logits_BV: float32 scores of the next token.
        samplings: each row's settings; temperature 0 takes the best-scored token (the first of equals).
        randoms: each row's own source of chance, asked for one number per draw, so that what is drawn does not
            depend on the other rows.
    """
    tokens_B = logits_BV.argmax(dim=-1)
    rows_by_setting: dict[tuple[float, int | None, float | None], list[int]] = {}
    for row, sampling in enumerate(samplings):
        if sampling.temperature > 0:
            setting = (sampling.temperature, sampling.top_k, sampling.top_p)
            rows_by_setting.setdefault(setting, []).append(row)
    for rows in rows_by_setting.values():
        chance = [randoms[row].random() for row in rows]
        tokens_B[rows] = draw(probabilities(logits_BV[rows], samplings[rows[0]]), chance)
    return tokens_B


def probabilities(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """Probability of each token under the settings, float32 [B, V]; 0 for those cut off. Temperature must be > 0."""
    scores_BV = logits_BV / sampling.temperature
    if sampling.top_k is not None:
        scores_BV = _keep_top_k(scores_BV, sampling.top_k)
    if sampling.top_p is not None and sampling.top_p < 1:
        scores_BV = _keep_top_p(scores_BV, sampling.top_p)
    return scores_BV.softmax(dim=-1)


def draw(probabilities_BV: Tensor, chance: Sequence[float]) -> Tensor:
    """The token at which the summed probabilities pass each row's number in [0, 1): int64 [B]."""
    # In double precision: single-precision sums over a large vocabulary would lose the rare tokens.
    sums_BV = probabilities_BV.double().cumsum(dim=-1)
    aim_B1 = torch.tensor(chance, dtype=torch.float64, device=sums_BV.device)[:, None] * sums_BV[:, -1:]
    return torch.searchsorted(sums_BV, aim_B1, right=True)[:, 0].clamp_max(sums_BV.shape[1] - 1)


def _keep_top_k(scores_BV: Tensor, top_k: int) -> Tensor:
    """The k best-scored tokens of each row, and those that score the same as the k-th."""
    least_B1 = scores_BV.topk(min(top_k, scores_BV.shape[1]), dim=-1).values[:, -1:]
    return scores_BV.masked_fill(scores_BV < least_B1, -torch.inf)


def _keep_top_p(scores_BV: Tensor, top_p: float) -> Tensor:
    """The fewest best-scored tokens whose probabilities reach `top_p`: at least one."""
    ascending_BV, order_BV = scores_BV.sort(dim=-1)
    cut_BV = ascending_BV.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    cut_BV[:, -1] = False
    return scores_BV.masked_fill(cut_BV.scatter(1, order_BV, cut_BV), -torch.inf)
