"""The engine: prompts of unequal length in, one forward pass per new token, each row on its own from there.

Prompts are padded on the left, so that all rows' newest tokens stand in the same column of the cache; a mask hides
the padding and each row counts its own positions. Rows that are finished leave the batch at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from vernacular.inference.answer import Answer
from vernacular.inference.sampling import choose
from vernacular.models.cache import ContiguousCache
from vernacular.models.decoder import Decoder

PROMPT_TOKENS = 8192
CACHE_BYTES = 2 << 30
MOST_ROWS = 256
SMALL_STEP = 32_000_000
"""Parameters times rows below which a step on a CPU runs on one thread."""


class Engine:
    """Answers many prompts with one decoder.

    Args:
        decoder: in evaluation mode, on its device.
        prompt_tokens: most tokens of prompts, padding included, in one forward pass.
        cache_bytes: most memory for one batch's keys and values. One prompt that needs more still gets it.
        most_rows: most prompts in one batch.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        prompt_tokens: int = PROMPT_TOKENS,
        cache_bytes: int = CACHE_BYTES,
        most_rows: int = MOST_ROWS,
    ) -> None:
        self._decoder = decoder
        self._prompt_tokens = prompt_tokens
        self._cache_tokens = cache_bytes // decoder.configuration.cache_bytes_per_token(_bytes_per_value(decoder))
        self._most_rows = most_rows

    def run(self, answers: Sequence[Answer]) -> Iterator[Answer]:
        """Finish all answers, yielding each as it is finished."""
        for batch in self._batches(answers):
            for finished in self.steps(batch):
                yield from finished

    def steps(self, answers: Sequence[Answer]) -> Iterator[list[Answer]]:
        """Finish answers as one batch; after each new token, yield those finished by it."""
        running = list(answers)
        batch = _Batch(self._decoder, running)
        while True:
            tokens_B = batch.choose(running)
            finished = [answer.push(token) for answer, token in zip(running, tokens_B.tolist(), strict=True)]
            yield [answer for answer, done in zip(running, finished, strict=True) if done]
            if any(finished):
                kept = _fill_holes(finished)
                if not kept:
                    return
                running = [running[row] for row in kept]
                tokens_B = batch.keep(kept, tokens_B)
            batch.advance(tokens_B)

    def _batches(self, answers: Sequence[Answer]) -> Iterator[list[Answer]]:
        """Batches of prompts of similar length, longest first: if memory does not suffice, that shows at once."""
        batch: list[Answer] = []
        capacity = 0
        for answer in sorted(answers, key=lambda answer: (-len(answer.prompt), -answer.limit)):
            capacity_with = max(capacity, _capacity([*batch[:1], answer]))
            rows = len(batch) + 1
            prompt_tokens = rows * len((batch or [answer])[0].prompt)
            fits = prompt_tokens <= self._prompt_tokens and rows * capacity_with <= self._cache_tokens
            if batch and not (fits and rows <= self._most_rows):
                yield batch
                batch, capacity_with = [], _capacity([answer])
            batch.append(answer)
            capacity = capacity_with
        if batch:
            yield batch


class _Batch:
    """The tensors of the rows that are being answered together."""

    @torch.inference_mode()
    def __init__(self, decoder: Decoder, answers: Sequence[Answer]) -> None:
        self._decoder = decoder
        device = decoder.embedding.weight.device
        lengths = [len(answer.prompt) for answer in answers]
        longest = max(lengths)
        ids_BT = torch.tensor([[0] * (longest - len(answer.prompt)) + list(answer.prompt) for answer in answers])
        padding_B1 = longest - torch.tensor(lengths)[:, None]
        capacity = _capacity(answers)
        self._positions_B1 = torch.tensor(lengths, device=device)[:, None]
        self._seen_B11S: Tensor | None = None
        mask_B1TS, positions_BT = None, None
        if min(lengths) < longest:
            seen_BS = torch.arange(capacity) >= padding_B1
            self._seen_B11S = seen_BS[:, None, None, :].to(device)
            positions_BT = (torch.arange(longest) - padding_B1).clamp_min(0).to(device)
            # A padding token looks at itself, since a softmax over nothing is not a number.
            causal_TS = torch.ones(longest, longest, dtype=torch.bool).tril()
            mask_B1TS = (causal_TS & seen_BS[:, None, :longest] | torch.eye(longest, dtype=torch.bool))[:, None]
            mask_B1TS = mask_B1TS.to(device)
        self._cache = ContiguousCache(
            decoder.configuration, len(answers), capacity, decoder.embedding.weight.dtype, device
        )
        hidden_BTD = decoder(ids_BT.to(device), positions_BT=positions_BT, mask_B1TS=mask_B1TS, cache=self._cache)
        self._logits_BV = decoder.logits(hidden_BTD[:, -1])

    @torch.inference_mode()
    def choose(self, answers: Sequence[Answer]) -> Tensor:
        """Each row's next token, int64 [B]."""
        return choose(self._logits_BV, [answer.sampling for answer in answers], [answer.random for answer in answers])

    @torch.inference_mode()
    def advance(self, tokens_B: Tensor) -> None:
        """One forward pass with each row's newest token."""
        small = self._decoder.configuration.num_parameters() * len(tokens_B) < SMALL_STEP
        with _one_thread() if small and tokens_B.device.type == "cpu" else nullcontext():
            self._advance(tokens_B)

    def _advance(self, tokens_B: Tensor) -> None:
        mask = None if self._seen_B11S is None else self._seen_B11S[..., : self._cache.length + 1]
        hidden_B1D = self._decoder(
            tokens_B[:, None], positions_BT=self._positions_B1, mask_B1TS=mask, cache=self._cache
        )
        self._positions_B1 += 1
        self._logits_BV = self._decoder.logits(hidden_B1D[:, -1])

    @torch.inference_mode()
    def keep(self, rows: list[int], tokens_B: Tensor) -> Tensor:
        """Go on with these rows only, in this order; return their newest tokens."""
        self._cache.keep(rows)
        self._positions_B1 = self._positions_B1[rows]
        if self._seen_B11S is not None:
            self._seen_B11S = self._seen_B11S[rows]
        return tokens_B[rows]


@contextmanager
def _one_thread() -> Iterator[None]:
    """No other threads for a while: in a step of a millisecond they cost more to wake than they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fill_holes(finished: Sequence[bool]) -> list[int]:
    """The unfinished rows, the last ones moved into the places of finished ones: so few rows of the cache move."""
    remaining = [row for row, done in enumerate(finished) if not done]
    spare = [row for row in remaining if row >= len(remaining)]
    return [row if not finished[row] else spare.pop() for row in range(len(remaining))]


def _capacity(answers: Sequence[Answer]) -> int:
    """Columns of the cache: the longest prompt, and the longest answer without its last token, which is never read."""
    return max(len(answer.prompt) for answer in answers) + max(answer.limit for answer in answers) - 1


def _bytes_per_value(decoder: Decoder) -> int:
    return decoder.embedding.weight.element_size()
