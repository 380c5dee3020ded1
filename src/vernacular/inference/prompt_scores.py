"""Log-probabilities of the tokens of a prompt, each given those before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vernacular.inference.model import LocalModel
from vernacular.models.language_model import TokenLogProbability

_ROWS = 256
"""Positions whose scores over the vocabulary are held at once."""


@torch.inference_mode()
def prompt_scores(lm: LocalModel, ids: Sequence[int], best: int) -> list[TokenLogProbability | None]:
    """Score each of `ids`; None for the first, before which there is nothing.

    Args:
        lm: whose decoder reads them in one forward pass; the thread that owns its engine must call this.
        ids: at most as many as the model has positions.
        best: how many of the most probable tokens to give for each place.
    """
    device = lm.decoder.embedding.weight.device
    ids_1T = torch.tensor([list(ids)], device=device)
    hidden_TD = lm.decoder(ids_1T)[0]
    found: list[TokenLogProbability | None] = [None]
    for start in range(0, len(ids) - 1, _ROWS):
        hidden_RD = hidden_TD[start : min(start + _ROWS, len(ids) - 1)]
        scores_RV = lm.decoder.logits(hidden_RD).float().log_softmax(dim=-1)
        targets_R1 = ids_1T[0, start + 1 : start + 1 + len(hidden_RD), None]
        own_R = scores_RV.gather(1, targets_R1)[:, 0].tolist()
        values_RK, tokens_RK = (part.tolist() for part in scores_RV.topk(min(best, scores_RV.shape[1]), dim=-1))
        for row, token in enumerate(targets_R1[:, 0].tolist()):
            alternatives = zip(tokens_RK[row], values_RK[row], strict=True)
            shown = tuple((other, _text(lm, other), value) for other, value in alternatives)
            found.append(TokenLogProbability(token, _text(lm, token), own_R[row], shown))
    return found


def _text(lm: LocalModel, token: int) -> str:
    return lm.tokenizer.decode([token], skip_special=False)
