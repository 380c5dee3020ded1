"""Contexts and their continuations as sequences to read, so that nothing is read twice. No tensors here.

Pairs with the same context become one group. Its trunk, the context, is one sequence, and each of its branches, the
continuations, another, which looks at the trunk's full pages; the last tokens of the trunk, which fill no page, are
written into a page of each branch. So all are computed in one forward pass. A pair whose context is nobody else's is
all trunk.

Contexts stand in the order of their tokens, so that the longest beginning that any earlier one shares is shared with
the one right before. Of that beginning whole pages are not read again: the trunk starts behind them and looks at its
predecessor's, in the same forward pass or, for a batch's first, in the one before. Solved examples in front of all
questions are thus read once a call. Groups that share nothing stand by length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vernacular.inference.encoding import TokenPair
from vernacular.inference.paged_memory import Placed
from vernacular.inference.pages import PAGE_TOKENS, pages_for


class Target(NamedTuple):
    """A token whose log-probability is asked for, and the pair it belongs to."""

    pair: int
    token: int


@dataclass
class Part:
    """Tokens to read as one sequence, and, by place in it, which targets the scores there are asked for."""

    ids: list[int] = field(default_factory=list)
    asked: dict[int, list[Target]] = field(default_factory=dict)

    def read(self, pair: int, tokens: Sequence[int]) -> None:
        """Read all of the pair's tokens but the last, each asked for the next."""
        for token, target in pairwise(tokens):
            self.asked.setdefault(len(self.ids), []).append(Target(pair, target))
            self.ids.append(token)


class Group:
    """A context and some of its continuations.

    The first token of a continuation is predicted by the context's last; its own last token is never read.

    Args:
        context: all of its tokens.
        continuations: each with the number of its pair.
        shared: how many tokens at its beginning, whole pages, are those of the group before.
    """

    def __init__(
        self, context: Sequence[int], continuations: Sequence[tuple[int, Sequence[int]]], shared: int = 0
    ) -> None:
        self.num_pairs = len(continuations)
        self.context_tokens, self.shared = len(context), shared
        self.trunk = Part(list(context[shared:]))
        self.trunk.asked[len(context) - 1 - shared] = [Target(pair, tokens[0]) for pair, tokens in continuations]
        self.branches: list[Part] = []
        for pair, tokens in continuations:
            part = self.trunk if self.num_pairs == 1 else Part()
            part.read(pair, tokens)
            if part is not self.trunk and part.ids:
                self.branches.append(part)
        self.num_tokens = len(self.trunk.ids) + sum(len(branch.ids) for branch in self.branches)
        self.num_pages = pages_for(len(self.trunk.ids)) + sum(
            _branch_pages(len(context), len(branch.ids)) for branch in self.branches
        )

    def place(self, first: int, pages: NDArray[np.int32], own: Iterator[int]) -> tuple[list[Placed], NDArray[np.int32]]:
        """Its sequences, the trunk's pages.

        Args:
            first: its first token's place in the forward pass.
            pages: those of the group before, the shared ones first.
            own: pages to take.
        """
        read, length = len(self.trunk.ids), self.context_tokens
        trunk = np.array([*pages[: self.shared // PAGE_TOKENS], *islice(own, pages_for(read))], dtype=np.int32)
        sequences = [Placed(self.shared, read, trunk)]
        full = length // PAGE_TOKENS * PAGE_TOKENS
        rest = range(first + full - self.shared, first + length - self.shared)
        for branch in self.branches:
            tail = islice(own, _branch_pages(length, len(branch.ids)))
            pages_of_branch = np.array([*trunk[: full // PAGE_TOKENS], *tail], dtype=np.int32)
            sequences.append(Placed(length, len(branch.ids), pages_of_branch, rest))
        return sequences, trunk


def _branch_pages(trunk_tokens: int, tokens: int) -> int:
    """Pages that a branch needs of its own."""
    return pages_for(trunk_tokens % PAGE_TOKENS + tokens)


def groups_of(pairs: Sequence[TokenPair], most_pages: int) -> list[Group]:
    """One group per context, several where its continuations take more than `most_pages`; in the order to be read."""
    return _by_length(_in_order(pairs, most_pages))


def _in_order(pairs: Sequence[TokenPair], most_pages: int) -> Iterator[Group]:
    """The groups in the order of their contexts' tokens."""
    by_context: dict[tuple[int, ...], list[tuple[int, Sequence[int]]]] = {}
    for number, pair in enumerate(pairs):
        by_context.setdefault(pair.context, []).append((number, pair.continuation))
    before: tuple[int, ...] = ()
    for context in sorted(by_context):
        continuations = by_context[context]
        trunk = pages_for(len(context))
        most = max(most_pages, 2 * trunk)
        first, num_pages = 0, trunk
        for place, (_, some) in enumerate(continuations):
            pages = _branch_pages(len(context), len(some))
            if num_pages + pages > most and place > first:
                yield Group(context, continuations[first:place], _shared(before, context))
                before, first, num_pages = context, place, trunk
            num_pages += pages
        yield Group(context, continuations[first:], _shared(before, context))
        before = context


def _shared(before: Sequence[int], context: Sequence[int]) -> int:
    """Tokens, whole pages of them, that two contexts begin with; not all of the second's, whose last is to be read."""
    most = min(len(before), len(context) - 1)
    start = 0
    while start + PAGE_TOKENS <= most and before[start : start + PAGE_TOKENS] == context[start : start + PAGE_TOKENS]:
        start += PAGE_TOKENS
    return start


def _by_length(groups: Iterable[Group]) -> list[Group]:
    """Groups that share nothing with those before them, with those that follow them and do, by their length."""
    clusters: list[list[Group]] = []
    for group in groups:
        if group.shared:
            clusters[-1].append(group)
        else:
            clusters.append([group])
    clusters.sort(key=lambda cluster: -cluster[0].num_tokens)
    return [group for cluster in clusters for group in cluster]


def batches_of(groups: Sequence[Group], tokens_per_batch: int, most_pages: int) -> Iterator[list[Group]]:
    """Groups as they stand; `tokens_per_batch` tokens at most unless one group has more."""
    batch: list[Group] = []
    num_tokens = num_pages = 0
    for group in groups:
        num_tokens += group.num_tokens
        num_pages += group.num_pages
        if batch and (num_tokens > tokens_per_batch or num_pages > most_pages):
            yield batch
            batch, num_tokens, num_pages = [], group.num_tokens, group.num_pages
        batch.append(group)
    if batch:
        yield batch


def pages_of(batch: Sequence[Group]) -> int:
    """Pages that a batch needs, those among them that its first group shares with the batch before."""
    return batch[0].shared // PAGE_TOKENS + sum(group.num_pages for group in batch)
