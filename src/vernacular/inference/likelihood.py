"""Log-probabilities of given continuations, fast: no token is read twice, neither of a context that has several nor of
what contexts begin with in common (`groups`). Groups make batches of a set number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vernacular.inference.encoding import TokenPair
from vernacular.inference.groups import Group, batches_of, groups_of, pages_of
from vernacular.inference.paged_memory import PagedAttend, PagedMemory, Placed, Placement
from vernacular.inference.pages import PAGE_TOKENS
from vernacular.kernels.linear import PackedLinear
from vernacular.kernels.scores import score_product
from vernacular.models.decoder import Decoder
from vernacular.models.language_model import Likelihood, Report

TOKENS_PER_BATCH = 4096
PAGE_ROOM = 2
"""Most tokens that a batch's pages have room for, in multiples of the tokens per batch: short branches waste room."""
LOGITS_PER_CHUNK = 1 << 23


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
    fitted = [_fit(pair, decoder.configuration.max_positions) for pair in pairs]
    groups = groups_of(fitted, most_pages)
    batches = list(batches_of(groups, tokens_per_batch, most_pages))
    num_pages = max((pages_of(batch) for batch in batches), default=1)
    weight = decoder.embedding.weight
    memory = PagedMemory(decoder.configuration, num_pages, weight.dtype, weight.device, kernels, is_lasting=False)
    log_probabilities = torch.zeros(len(pairs), dtype=torch.float64)
    is_greedy = torch.ones(len(pairs), dtype=torch.bool)
    kept = np.empty(0, dtype=np.int32)
    for batch in batches:
        kept = _score(decoder, memory, batch, kept, log_probabilities, is_greedy)
        if report is not None:
            report(sum(group.num_pairs for group in batch))
    sizes = [len(pair.continuation) for pair in pairs]
    cut = [len(pair.context) - len(fit.context) for pair, fit in zip(pairs, fitted, strict=True)]
    return [Likelihood(*each) for each in zip(log_probabilities.tolist(), is_greedy.tolist(), sizes, cut, strict=True)]


def _fit(pair: TokenPair, max_positions: int) -> TokenPair:
    room = max_positions + 1 - len(pair.continuation)
    if room < 1:
        # Every caller makes its continuations fit or refuses them in its own words.
        raise ValueError(f"a continuation of {len(pair.continuation)} tokens exceeds {max_positions} positions")
    return TokenPair(pair.context[-room:], pair.continuation)


def _score(
    decoder: Decoder,
    memory: PagedMemory,
    groups: Sequence[Group],
    kept: NDArray[np.int32],
    log_probabilities: Tensor,
    is_greedy: Tensor,
) -> NDArray[np.int32]:
    """Read one batch and enter its pairs' results.

    Args:
        decoder: that reads.
        memory: whose pages it fills.
        groups: the batch.
        kept: pages of the last group of the batch before.
        log_probabilities: of all pairs.
        is_greedy: alike.

    Returns:
        Pages of the last group.
    """
    device = decoder.embedding.weight.device
    parts = [part for group in groups for part in (group.trunk, *group.branches)]
    placement, kept = _place(groups, kept, device)
    hidden_1ND = decoder(
        torch.tensor([[token for part in parts for token in part.ids]], device=device),
        positions_BT=placement.positions_N[None],
        attend=PagedAttend(memory, placement),
    )
    starts = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()
    places = [start + place for start, part in zip(starts, parts, strict=False) for place in part.asked]
    targets = [some for part in parts for some in part.asked.values()]
    hidden_MD = hidden_1ND[0, torch.tensor(places, device=device)]
    # K targets, and the reader, a row of hidden_MD, that each is asked of.
    reader_K = torch.tensor([reader for reader, some in enumerate(targets) for _ in some])
    pair_K = torch.tensor([target.pair for some in targets for target in some])
    token_K = torch.tensor([target.token for some in targets for target in some])
    log_probability_K, is_best_K = _ask(decoder, hidden_MD, reader_K, token_K)
    log_probabilities.index_add_(0, pair_K, log_probability_K.double())
    is_greedy[pair_K[~is_best_K]] = False
    return kept


def _place(
    groups: Sequence[Group], kept: NDArray[np.int32], device: torch.device
) -> tuple[Placement, NDArray[np.int32]]:
    """Where the batch's tokens stand, and the pages of its last trunk; those shared with `kept` are not taken."""
    held = set(kept[: groups[0].shared // PAGE_TOKENS].tolist())
    own = (page for page in count() if page not in held)
    sequences: list[Placed] = []
    num_tokens = 0
    for group in groups:
        placed, kept = group.place(num_tokens, kept, own)
        sequences += placed
        num_tokens += group.num_tokens
    return Placement.of(sequences, device), kept


def _ask(decoder: Decoder, hidden_MD: Tensor, reader_K: Tensor, token_K: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each token after its reader, which stand in order, and whether it is the best; on the CPU."""
    if isinstance(decoder.head, PackedLinear):
        ends_M = torch.bincount(reader_K, minlength=len(hidden_MD)).cumsum(0)
        starts = torch.cat((ends_M.new_zeros(1), ends_M))
        scaling = decoder.configuration.logits_scaling
        found = score_product(decoder.head, hidden_MD, starts, token_K, scaling=scaling)
        return found.scores_K - found.normalisers_R[reader_K], found.best_R[reader_K] == token_K
    log_probabilities, are_best = [], []
    rows = max(1, LOGITS_PER_CHUNK // decoder.configuration.vocab_size)
    for start in range(0, len(hidden_MD), rows):
        scores_MV = decoder.logits(hidden_MD[start : start + rows]).log_softmax(dim=-1)
        here = (reader_K >= start) & (reader_K < start + rows)
        own_K, asked_K = (reader_K[here] - start).to(scores_MV.device), token_K[here].to(scores_MV.device)
        log_probabilities.append(scores_MV[own_K, asked_K].cpu())
        are_best.append((scores_MV.argmax(dim=-1)[own_K] == asked_K).cpu())
    return torch.cat(log_probabilities), torch.cat(are_best)
