"""Log-probabilities of given continuations, fast: a context is read once, whatever the number of its continuations.

Pairs with the same context become one group. Its trunk, the context, is one sequence, and each of its branches, the
continuations, another, which looks at the trunk's full pages; the last tokens of the trunk, which fill no page, are
written into a page of each branch. So all are computed in one forward pass, and none is read twice. A pair whose
context is nobody else's is all trunk. Groups of similar length make a batch of a set number of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vernacular.inference.encoding import TokenPair
from vernacular.inference.paged_memory import PagedAttend, PagedMemory, Placed, Placement
from vernacular.inference.pages import PAGE_TOKENS, pages_for
from vernacular.models.decoder import Decoder
from vernacular.models.language_model import Likelihood, Report

TOKENS_PER_BATCH = 4096
PAGE_ROOM = 2
"""Most tokens that a batch's pages have room for, in multiples of the tokens per batch: short branches waste room."""
LOGITS_PER_CHUNK = 1 << 24


class _Target(NamedTuple):
    """A token whose log-probability is asked for, and the pair it belongs to."""

    pair: int
    token: int


@dataclass
class _Part:
    """Tokens to read as one sequence, and, by place in it, which targets the scores there are asked for."""

    ids: list[int] = field(default_factory=list)
    asked: dict[int, list[_Target]] = field(default_factory=dict)

    def read(self, pair: int, tokens: Sequence[int]) -> None:
        """Read all of the pair's tokens but the last, each asked for the next."""
        for token, target in pairwise(tokens):
            self.asked.setdefault(len(self.ids), []).append(_Target(pair, target))
            self.ids.append(token)


class _Group:
    """A context and some of its continuations.

    The first token of a continuation is predicted by the context's last; its own last token is never read.
    """

    def __init__(self, context: Sequence[int], continuations: Sequence[tuple[int, Sequence[int]]]) -> None:
        self.num_pairs = len(continuations)
        self.trunk = _Part(list(context))
        self.trunk.asked[len(context) - 1] = [_Target(pair, tokens[0]) for pair, tokens in continuations]
        self.branches: list[_Part] = []
        for pair, tokens in continuations:
            part = self.trunk if self.num_pairs == 1 else _Part()
            part.read(pair, tokens)
            if part is not self.trunk and part.ids:
                self.branches.append(part)
        self.num_tokens = len(self.trunk.ids) + sum(len(branch.ids) for branch in self.branches)
        self.num_pages = pages_for(len(self.trunk.ids)) + sum(
            _branch_pages(len(self.trunk.ids), len(branch.ids)) for branch in self.branches
        )


def _branch_pages(trunk_tokens: int, tokens: int) -> int:
    """Pages that a branch needs of its own."""
    return pages_for(trunk_tokens % PAGE_TOKENS + tokens)


@torch.inference_mode()
def likelihoods(
    decoder: Decoder,
    pairs: Sequence[TokenPair],
    *,
    kernels: str = "torch",
    tokens_per_batch: int = TOKENS_PER_BATCH,
    report: Report | None = None,
) -> list[Likelihood]:
    """Log-probability in nats of each continuation, and whether each of its tokens was the best-scored one.

    A pair longer than the decoder's positions loses tokens at the left, as in lm-evaluation-harness; its last token is
    only predicted, not read, so that it needs no position. With the native kernels (and packed weights) a pair's result
    is the same bits whatever the others.
    """
    most_pages = max(1, PAGE_ROOM * tokens_per_batch // PAGE_TOKENS)
    groups = _groups([_fit(pair, decoder.configuration.max_positions) for pair in pairs], most_pages)
    batches = list(_batches(groups, tokens_per_batch, most_pages))
    num_pages = max((sum(group.num_pages for group in batch) for batch in batches), default=1)
    weight = decoder.embedding.weight
    memory = PagedMemory(decoder.configuration, num_pages, weight.dtype, weight.device, kernels)
    log_probabilities = torch.zeros(len(pairs), dtype=torch.float64)
    is_greedy = torch.ones(len(pairs), dtype=torch.bool)
    for batch in batches:
        _score(decoder, memory, batch, log_probabilities, is_greedy)
        if report is not None:
            report(sum(group.num_pairs for group in batch))
    sizes = [len(pair.continuation) for pair in pairs]
    return [Likelihood(*each) for each in zip(log_probabilities.tolist(), is_greedy.tolist(), sizes, strict=True)]


def _fit(pair: TokenPair, max_positions: int) -> TokenPair:
    room = max_positions + 1 - len(pair.continuation)
    if room < 1:
        # Every caller makes its continuations fit or refuses them in its own words.
        raise ValueError(f"a continuation of {len(pair.continuation)} tokens exceeds {max_positions} positions")
    return TokenPair(pair.context[-room:], pair.continuation)


def _groups(pairs: Sequence[TokenPair], most_pages: int) -> Iterator[_Group]:
    """One group per context; several where the continuations take too many pages."""
    by_context: dict[tuple[int, ...], list[tuple[int, Sequence[int]]]] = {}
    for number, pair in enumerate(pairs):
        by_context.setdefault(pair.context, []).append((number, pair.continuation))
    for context, continuations in by_context.items():
        trunk = pages_for(len(context))
        most = max(most_pages, 2 * trunk)
        first, num_pages = 0, trunk
        for place, (_, some) in enumerate(continuations):
            pages = _branch_pages(len(context), len(some))
            if num_pages + pages > most and place > first:
                yield _Group(context, continuations[first:place])
                first, num_pages = place, trunk
            num_pages += pages
        yield _Group(context, continuations[first:])


def _batches(groups: Iterator[_Group], tokens_per_batch: int, most_pages: int) -> Iterator[list[_Group]]:
    """Groups of similar length, longest first; `tokens_per_batch` tokens at most unless one group has more."""
    batch: list[_Group] = []
    num_tokens = num_pages = 0
    for group in sorted(groups, key=lambda group: -group.num_tokens):
        num_tokens += group.num_tokens
        num_pages += group.num_pages
        if batch and (num_tokens > tokens_per_batch or num_pages > most_pages):
            yield batch
            batch, num_tokens, num_pages = [], group.num_tokens, group.num_pages
        batch.append(group)
    if batch:
        yield batch


def _score(
    decoder: Decoder, memory: PagedMemory, groups: Sequence[_Group], log_probabilities: Tensor, is_greedy: Tensor
) -> None:
    """Read one batch and enter its pairs' results."""
    device = decoder.embedding.weight.device
    parts = [part for group in groups for part in (group.trunk, *group.branches)]
    placement = _place(groups, device)
    hidden_1ND = decoder(
        torch.tensor([[token for part in parts for token in part.ids]], device=device),
        positions_BT=placement.positions_N[None],
        attend=PagedAttend(memory, placement),
    )
    starts = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()
    places = [start + place for start, part in zip(starts, parts, strict=False) for place in part.asked]
    targets = [some for part in parts for some in part.asked.values()]
    hidden_MD = hidden_1ND[0, torch.tensor(places, device=device)]
    chunk = max(1, LOGITS_PER_CHUNK // decoder.configuration.vocab_size)
    for start in range(0, len(targets), chunk):
        logits_MV = decoder.logits(hidden_MD[start : start + chunk])
        _enter(logits_MV, targets[start : start + chunk], log_probabilities, is_greedy)


def _place(groups: Sequence[_Group], device: torch.device) -> Placement:
    """Pages for the batch, from the first on: a branch's begin with the trunk's full ones."""
    sequences: list[Placed] = []
    num_pages = num_tokens = 0
    for group in groups:
        length = len(group.trunk.ids)
        trunk = np.arange(num_pages, num_pages + pages_for(length), dtype=np.int32)
        num_pages += len(trunk)
        sequences.append(Placed(0, length, trunk))
        rest = range(num_tokens + length // PAGE_TOKENS * PAGE_TOKENS, num_tokens + length)
        for branch in group.branches:
            own = np.arange(num_pages, num_pages + _branch_pages(length, len(branch.ids)), dtype=np.int32)
            num_pages += len(own)
            pages = np.concatenate((trunk[: length // PAGE_TOKENS], own))
            sequences.append(Placed(length, len(branch.ids), pages, rest))
        num_tokens += group.num_tokens
    return Placement.of(sequences, device)


def _enter(
    logits_MV: Tensor, targets: Sequence[Sequence[_Target]], log_probabilities: Tensor, is_greedy: Tensor
) -> None:
    """Add the targets' log-probabilities to their pairs', and mark the pairs with a target that is not the best."""
    device = logits_MV.device
    reader_K = torch.tensor([reader for reader, some in enumerate(targets) for _ in some])
    pair_K = torch.tensor([target.pair for some in targets for target in some])
    token_K = torch.tensor([target.token for some in targets for target in some])
    best_K = logits_MV.argmax(dim=-1).cpu()[reader_K] == token_K
    score_K = logits_MV.log_softmax(dim=-1)[reader_K.to(device), token_K.to(device)]
    log_probabilities.index_add_(0, pair_K, score_K.double().cpu())
    is_greedy[pair_K[~best_K]] = False
