"""Log-probabilities of given continuations, fast: a context is read once, whatever the number of its continuations.

Pairs with the same context become one row. Its trunk, the context, is read first, into a cache; then its branches, the
continuations, side by side: each sees the trunk and itself, and counts its positions from the trunk's end, so it is
read as if it stood alone. A pair whose context is nobody else's is all trunk. Rows of similar length make a batch of a
set number of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from vernacular.inference.encoding import TokenPair
from vernacular.models.cache import ContiguousCache
from vernacular.models.decoder import Decoder
from vernacular.models.language_model import Likelihood, Report

TOKENS_PER_BATCH = 4096
LOGITS_PER_CHUNK = 1 << 24
BRANCH_TOKENS_PER_ROW = 512


class _Target(NamedTuple):
    """A token whose log-probability is asked for, and the pair it belongs to."""

    pair: int
    token: int


@dataclass
class _Part:
    """Tokens to read, and, by column, which targets a column's scores are asked for."""

    ids: list[int] = field(default_factory=list)
    asked: dict[int, list[_Target]] = field(default_factory=dict)

    def ask(self, column: int, pair: int, token: int) -> None:
        self.asked.setdefault(column, []).append(_Target(pair, token))


class _Row:
    """A context and some of its continuations.

    The first token of a continuation is predicted by the context's last; its own last token is never read.
    `branch_of` gives the continuation, and `depth_of` the place in it, of each token read in `branches`.
    """

    def __init__(self, context: Sequence[int], continuations: Sequence[tuple[int, Sequence[int]]]) -> None:
        self.num_pairs = len(continuations)
        self.trunk, self.branches = _Part(list(context)), _Part()
        self.branch_of: list[int] = []
        self.depth_of: list[int] = []
        last = len(context) - 1
        for number, (pair, continuation) in enumerate(continuations):
            self.trunk.ask(last, pair, continuation[0])
            part = self.branches if self.num_pairs > 1 else self.trunk
            for depth, (read, target) in enumerate(pairwise(continuation)):
                part.ask(len(part.ids), pair, target)
                part.ids.append(read)
                if part is self.branches:
                    self.branch_of.append(number)
                    self.depth_of.append(depth)


@torch.inference_mode()
def likelihoods(
    decoder: Decoder,
    pairs: Sequence[TokenPair],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    report: Report | None = None,
) -> list[Likelihood]:
    """Log-probability in nats of each continuation, and whether each of its tokens was the best-scored one.

    A pair longer than the decoder's positions loses tokens at the left, as in lm-evaluation-harness; its last token is
    only predicted, not read, so that it needs no position.
    """
    rows = _rows([_fit(pair, decoder.configuration.max_positions) for pair in pairs])
    log_probabilities = torch.zeros(len(pairs), dtype=torch.float64)
    is_greedy = torch.ones(len(pairs), dtype=torch.bool)
    for batch in _batches(rows, tokens_per_batch):
        _score(decoder, batch, log_probabilities, is_greedy)
        if report is not None:
            report(sum(row.num_pairs for row in batch))
    return [Likelihood(*values) for values in zip(log_probabilities.tolist(), is_greedy.tolist(), strict=True)]


def _fit(pair: TokenPair, max_positions: int) -> TokenPair:
    room = max_positions + 1 - len(pair.continuation)
    if room < 1:
        # Every caller makes its continuations fit or refuses them in its own words.
        raise ValueError(f"a continuation of {len(pair.continuation)} tokens exceeds {max_positions} positions")
    return TokenPair(pair.context[-room:], pair.continuation)


def _rows(pairs: Sequence[TokenPair]) -> Iterator[_Row]:
    """One row per context; several where the continuations are many, since a row is as long as all of them."""
    by_context: dict[tuple[int, ...], list[tuple[int, Sequence[int]]]] = {}
    for number, pair in enumerate(pairs):
        by_context.setdefault(pair.context, []).append((number, pair.continuation))
    for context, continuations in by_context.items():
        most = max(BRANCH_TOKENS_PER_ROW, len(context))
        first, tokens = 0, 0
        for place, (_, some) in enumerate(continuations):
            tokens += len(some)
            if tokens > most and place > first:
                yield _Row(context, continuations[first:place])
                first, tokens = place, len(some)
        yield _Row(context, continuations[first:])


def _batches(rows: Iterator[_Row], tokens_per_batch: int) -> Iterator[list[_Row]]:
    """Rows of similar length, longest first, `tokens_per_batch` at most (padding included) unless one row has more."""
    batch: list[_Row] = []
    trunk = branches = 0
    for row in sorted(rows, key=lambda row: (-len(row.trunk.ids), -len(row.branches.ids))):
        trunk_with = max(trunk, len(row.trunk.ids))
        branches_with = max(branches, len(row.branches.ids))
        if batch and (len(batch) + 1) * (trunk_with + branches_with) > tokens_per_batch:
            yield batch
            batch, trunk_with, branches_with = [], len(row.trunk.ids), len(row.branches.ids)
        batch.append(row)
        trunk, branches = trunk_with, branches_with
    if batch:
        yield batch


def _score(decoder: Decoder, rows: Sequence[_Row], log_probabilities: Tensor, is_greedy: Tensor) -> None:
    """Read one batch and enter its pairs' results."""
    device = decoder.embedding.weight.device
    trunk_BT = _padded([row.trunk.ids for row in rows]).to(device)
    branches_BT = _padded([row.branches.ids for row in rows]).to(device)
    cache = None
    if branches_BT.shape[1]:
        dtype, capacity = decoder.embedding.weight.dtype, trunk_BT.shape[1] + branches_BT.shape[1]
        cache = ContiguousCache(decoder.configuration, len(rows), capacity, dtype, device)
    # Padding stands at the right, where only padding sees it.
    hidden_BTD = decoder(trunk_BT, cache=cache)
    hidden, targets = _asked(hidden_BTD, [row.trunk for row in rows])
    if cache is not None:
        depths_BT = _padded([row.depth_of for row in rows]).to(device)
        lengths_B1 = torch.tensor([[len(row.trunk.ids)] for row in rows], device=device)
        hidden_BTD = decoder(
            branches_BT,
            positions_BT=lengths_B1 + depths_BT,
            mask_B1TS=_mask(rows, trunk_BT.shape[1], lengths_B1),
            cache=cache,
        )
        hidden_of_branches, targets_of_branches = _asked(hidden_BTD, [row.branches for row in rows])
        hidden, targets = torch.cat((hidden, hidden_of_branches)), targets + targets_of_branches
    chunk = max(1, LOGITS_PER_CHUNK // decoder.configuration.vocab_size)
    for start in range(0, len(targets), chunk):
        logits_NV = decoder.logits(hidden[start : start + chunk])
        _enter(logits_NV, targets[start : start + chunk], log_probabilities, is_greedy)


def _asked(hidden_BTD: Tensor, parts: Sequence[_Part]) -> tuple[Tensor, list[list[_Target]]]:
    """The hidden states [N, D] whose scores are asked for, and what they are asked for."""
    width = hidden_BTD.shape[1]
    places = [row * width + column for row, part in enumerate(parts) for column in part.asked]
    targets = [targets for part in parts for targets in part.asked.values()]
    return hidden_BTD.flatten(0, 1)[torch.tensor(places, dtype=torch.int64, device=hidden_BTD.device)], targets


def _enter(
    logits_NV: Tensor, targets: Sequence[Sequence[_Target]], log_probabilities: Tensor, is_greedy: Tensor
) -> None:
    """Add the targets' log-probabilities to their pairs', and mark the pairs with a target that is not the best."""
    device = logits_NV.device
    reader_M = torch.tensor([reader for reader, some in enumerate(targets) for _ in some])
    pair_M = torch.tensor([target.pair for some in targets for target in some])
    token_M = torch.tensor([target.token for some in targets for target in some])
    best_M = logits_NV.argmax(dim=-1).cpu()[reader_M] == token_M
    score_M = logits_NV[reader_M.to(device), token_M.to(device)] - logits_NV.logsumexp(-1)[reader_M.to(device)]
    log_probabilities.index_add_(0, pair_M, score_M.double().cpu())
    is_greedy[pair_M[~best_M]] = False


def _mask(rows: Sequence[_Row], trunk_width: int, lengths_B1: Tensor) -> Tensor:
    """Bool [B, 1, branch tokens, trunk and branch tokens]: the trunk, and earlier tokens of one's own branch.

    Padding sees the trunk, so that its softmax is over something.
    """
    device = lengths_B1.device
    branch_BT = _padded([row.branch_of for row in rows]).to(device)
    width = branch_BT.shape[1]
    causal_TT = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    own_BTT = (branch_BT[:, None, :] == branch_BT[:, :, None]) & causal_TT
    trunk_B1S = torch.arange(trunk_width, device=device) < lengths_B1[:, None]
    return torch.cat((trunk_B1S.expand(-1, width, -1), own_BTT), dim=-1)[:, None]


def _padded(lists: Sequence[Sequence[int]]) -> Tensor:
    """Int64 [B, longest], filled up with zeros."""
    width = max(map(len, lists))
    return torch.tensor([[*values, *[0] * (width - len(values))] for values in lists], dtype=torch.int64)
