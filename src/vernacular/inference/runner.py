"""One step of the engine on the device: a plan becomes tensors, one forward pass, and a token for each row. No policy.

Shapes: N tokens of all chunks side by side, B rows that draw, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vernacular.foundation.errors import InternalError
from vernacular.inference.answer import Answer, TokenScores
from vernacular.inference.paged_memory import PagedAttend, PagedMemory, Placed, Placement
from vernacular.inference.recorded_decoding import RecordedDecoding, Recorder
from vernacular.inference.sampling import choose, penalise
from vernacular.inference.scheduler import Chunk
from vernacular.kernels.linear import PackedLinear
from vernacular.kernels.scores import score_product, score_rows
from vernacular.models.decoder import Decoder

SMALL_STEP = 32_000_000
"""Parameters times tokens below which a step on a CPU runs on one thread."""


class Drawn(NamedTuple):
    """A row's next token, and its scores where they are asked for."""

    token: int
    scores: TokenScores | None


class Runner:
    """Computes steps.

    Args:
        decoder: in evaluation mode, on its device.
        memory: where keys and values are.
        recorder: how steps of one token for each row are recorded; None: every step is computed call by call.
    """

    def __init__(self, decoder: Decoder, memory: PagedMemory, recorder: Recorder | None = None) -> None:
        self._decoder = decoder
        self._recorded = None if recorder is None else RecordedDecoding(decoder, memory, recorder)
        self._memory = memory
        self._device = decoder.embedding.weight.device
        self._num_parameters = decoder.configuration.num_active_parameters()

    @torch.inference_mode()
    def run(self, step: Sequence[Chunk], answers: Sequence[Answer]) -> list[Drawn]:
        """Compute the chunks; return the next token of each chunk that draws one.

        Args:
            step: chunks of different requests, their pages taken.
            answers: of the chunks that draw, in their order.
        """
        num_tokens = sum(chunk.num_tokens for chunk in step)
        small = self._device.type == "cpu" and self._num_parameters * num_tokens < SMALL_STEP
        with _one_thread() if small else nullcontext():
            if self._recorded is not None and all(chunk.num_tokens == 1 and chunk.draws for chunk in step):
                return self._draw(self._recorded.scores(step), answers)
            hidden_BD = self._hidden(step)
            if hidden_BD is None:
                return []
            head = self._decoder.head
            if isinstance(head, PackedLinear) and all(_takes_the_best(answer) for answer in answers):
                return _best(head, hidden_BD, self._decoder.configuration.logits_scaling)
            return self._draw(self._decoder.logits(hidden_BD), answers)

    def _hidden(self, step: Sequence[Chunk]) -> Tensor | None:
        """What the token after each chunk that draws is told from, [B, D]; None where none does."""
        ids = [token for chunk in step for token in chunk.request.tokens[chunk.start : chunk.start + chunk.num_tokens]]
        placement = Placement.of(
            [
                Placed(chunk.start, chunk.num_tokens, np.frombuffer(chunk.request.pages, dtype=np.int32))
                for chunk in step
            ],
            self._device,
        )
        hidden_1ND = self._decoder(
            torch.tensor([ids], device=self._device),
            positions_BT=placement.positions_N[None],
            attend=PagedAttend(self._memory, placement),
        )
        last = [
            end - 1
            for chunk, end in zip(step, np.cumsum([chunk.num_tokens for chunk in step]).tolist(), strict=True)
            if chunk.draws
        ]
        if not last:
            return None
        every = len(last) == len(ids)
        return hidden_1ND[0] if every else hidden_1ND[0, torch.tensor(last, device=self._device)]

    def _draw(self, logits_BV: Tensor, answers: Sequence[Answer]) -> list[Drawn]:
        scores_BV = self._penalised(logits_BV, answers)
        for row, answer in enumerate(answers):
            if answer.constraint is not None:
                if scores_BV is logits_BV:
                    scores_BV = logits_BV.clone()
                allowed_V = torch.from_numpy(answer.constraint.allowed()).to(self._device)
                scores_BV[row].masked_fill_(~allowed_V, -torch.inf)
        samplings = [answer.sampling for answer in answers]
        tokens_B = choose(scores_BV, samplings, [answer.random for answer in answers])
        tokens = _checked(tokens_B.where(logits_BV.amax(dim=-1).isfinite(), -1))
        numbers = [sampling.log_probabilities for sampling in samplings]
        scores = token_scores(logits_BV, tokens_B, numbers, is_native=self._memory.is_native)
        return [Drawn(token, score) for token, score in zip(tokens, scores, strict=True)]

    def _penalised(self, logits_BV: Tensor, answers: Sequence[Answer]) -> Tensor:
        rows = [row for row, answer in enumerate(answers) if answer.sampling.repetition_penalty != 1]
        if not rows:
            return logits_BV
        seen_RV = np.zeros((len(rows), logits_BV.shape[1]), dtype=np.bool_)
        for place, row in enumerate(rows):
            seen_RV[place, list(answers[row].prompt)] = True
            seen_RV[place, answers[row].ids] = True
        penalties = [answers[row].sampling.repetition_penalty for row in rows]
        scores_BV = logits_BV.clone()
        scores_BV[rows] = penalise(logits_BV[rows], torch.from_numpy(seen_RV).to(self._device), penalties)
        return scores_BV


def _takes_the_best(answer: Answer) -> bool:
    """Whether the scores need not be known, only which is the best."""
    sampling = answer.sampling
    is_plain = sampling.repetition_penalty == 1 and sampling.log_probabilities is None
    return sampling.is_greedy and is_plain and answer.constraint is None


def _best(head: PackedLinear, hidden_BD: Tensor, scaling: float) -> list[Drawn]:
    """The best token of each row; scores over the vocabulary are not written.

    They are scaled all the same: two that differ in the last bit may then be equal, and the first of equals is taken.
    """
    return [Drawn(token, None) for token in _checked(score_product(head, hidden_BD, scaling=scaling).best_R)]


def _checked(tokens_B: Tensor) -> list[int]:
    """Tokens that were chosen by scores; -1 stands where a row of them has a NaN or ∞."""
    tokens: list[int] = tokens_B.tolist()
    if min(tokens) < 0:
        raise InternalError(
            "the scores of the next token are not all numbers", fix="check the weights: their logits are not finite"
        )
    return tokens


def token_scores(
    logits_BV: Tensor, tokens_B: Tensor, numbers: Sequence[int | None], *, is_native: bool = False
) -> list[TokenScores | None]:
    """Log-probability of each row's token, and the row's number of best ones; None where the number is None.

    Args:
        logits_BV: float32 scores as the model gives them, before any setting.
        tokens_B: the tokens that were chosen.
        numbers: how many of the best tokens each row asks for.
        is_native: whether our own kernel adds up, as it does for `likelihoods`.
    """
    rows = [row for row, number in enumerate(numbers) if number is not None]
    found: list[TokenScores | None] = [None] * len(numbers)
    if not rows:
        return found
    asked_RV = logits_BV[rows]
    log_probabilities_RV = (
        asked_RV - score_rows(asked_RV).normalisers_R[:, None] if is_native else asked_RV.log_softmax(dim=-1)
    )
    own = log_probabilities_RV.gather(1, tokens_B[rows][:, None])[:, 0].tolist()
    most = min(max(numbers[row] or 0 for row in rows), logits_BV.shape[1])
    best_RK, ids_RK = (part.tolist() for part in log_probabilities_RV.topk(most, dim=-1))
    for place, row in enumerate(rows):
        best = list(zip(ids_RK[place], best_RK[place], strict=True))[: numbers[row]]
        found[row] = TokenScores(own[place], tuple(best))
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """No other threads for a while: in a step of a millisecond they cost more to wake than they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
