"""Log-probabilities of given continuations, fast: a context is read once, whatever the number of its continuations.

Pairs with the same context become one row: the context, then its continuations side by side. Each continuation sees
the context and itself, and counts its positions from the context's end, so it is read as if it stood alone. Rows of
similar length make a batch of a set number of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vernacular.inference.encoding import TokenPair
from vernacular.models.decoder import Decoder
from vernacular.models.language_model import Likelihood, Report

TOKENS_PER_BATCH = 4096
LOGITS_PER_CHUNK = 1 << 24
CONTINUATION_TOKENS_PER_ROW = 512


@dataclass
class _Row:
    """A context and some of its continuations, as one sequence.

    Attributes:
        ids, positions: the tokens read and their positions.
        branches: 0 for the context, n for its n-th continuation: a token sees its own branch and branch 0.
        readers: columns whose scores are needed; each predicts one or more targets.
        targets: for each reader, what it is asked for: (pair, token).
    """

    ids: list[int]
    positions: list[int]
    branches: list[int]
    readers: list[int]
    targets: list[list[tuple[int, int]]]
    pairs: list[int] = field(default_factory=list)

    @classmethod
    def of_context(cls, context: Sequence[int]) -> _Row:
        length = len(context)
        return cls(list(context), list(range(length)), [0] * length, [length - 1], [[]])

    def add(self, pair: int, continuation: Sequence[int]) -> None:
        """Append a continuation; its first token is predicted by the context's last, its last one is never read."""
        start = self.readers[0] + 1
        self.pairs.append(pair)
        self.targets[0].append((pair, continuation[0]))
        for place in range(len(continuation) - 1):
            self.readers.append(len(self.ids))
            self.targets.append([(pair, continuation[place + 1])])
            self.ids.append(continuation[place])
            self.positions.append(start + place)
            self.branches.append(len(self.pairs))


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
            report(sum(len(row.pairs) for row in batch))
    return [Likelihood(*values) for values in zip(log_probabilities.tolist(), is_greedy.tolist(), strict=True)]


def _fit(pair: TokenPair, max_positions: int) -> TokenPair:
    room = max_positions + 1 - len(pair.continuation)
    if room < 1:
        # Every caller makes its continuations fit or refuses them in its own words.
        raise ValueError(f"a continuation of {len(pair.continuation)} tokens exceeds {max_positions} positions")
    return TokenPair(pair.context[-room:], pair.continuation)


def _rows(pairs: Sequence[TokenPair]) -> list[_Row]:
    """One row per context; several where the continuations are many, since attention's cost grows with the square."""
    rows: list[_Row] = []
    open_rows: dict[tuple[int, ...], _Row] = {}
    for number, (context, continuation) in enumerate(pairs):
        row = open_rows.get(context)
        most = len(context) + max(CONTINUATION_TOKENS_PER_ROW, len(context))
        if row is None or len(row.ids) + len(continuation) - 1 > most:
            row = open_rows[context] = _Row.of_context(context)
            rows.append(row)
        row.add(number, continuation)
    return rows


def _batches(rows: Sequence[_Row], tokens_per_batch: int) -> Iterator[list[_Row]]:
    """Rows of similar length, longest first, `tokens_per_batch` at most (padding included) unless one row has more."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        if batch and (len(batch) + 1) * len(batch[0].ids) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _score(decoder: Decoder, rows: Sequence[_Row], log_probabilities: Tensor, is_greedy: Tensor) -> None:
    """Read one batch and enter its pairs' results."""
    device = decoder.embedding.weight.device
    hidden_BTD = decoder(
        _padded([row.ids for row in rows]).to(device),
        positions_BT=_padded([row.positions for row in rows]).to(device),
        mask_B1TS=_mask(rows, device),
    )
    width = hidden_BTD.shape[1]
    columns = [number * width + column for number, row in enumerate(rows) for column in row.readers]
    hidden_ND = hidden_BTD.flatten(0, 1)[torch.tensor(columns, device=device)]
    targets = [asked for row in rows for asked in row.targets]
    chunk = max(1, LOGITS_PER_CHUNK // decoder.configuration.vocab_size)
    for start in range(0, len(targets), chunk):
        asked = targets[start : start + chunk]
        reader_M = torch.tensor([place for place, some in enumerate(asked) for _ in some])
        pair_M = torch.tensor([pair for some in asked for pair, _ in some])
        token_M = torch.tensor([token for some in asked for _, token in some])
        logits_NV = decoder.logits(hidden_ND[start : start + chunk])
        best_M = logits_NV.argmax(dim=-1).cpu()[reader_M] == token_M
        chosen_M = logits_NV[reader_M.to(device), token_M.to(device)] - logits_NV.logsumexp(-1)[reader_M.to(device)]
        log_probabilities.index_add_(0, pair_M, chosen_M.double().cpu())
        is_greedy[pair_M[~best_M]] = False


def _mask(rows: Sequence[_Row], device: torch.device) -> Tensor | None:
    """Bool [B, 1, T, T]: earlier tokens of the context and of one's own branch. None where that is plain causal.

    Padding stands at the right, where nothing but padding sees it.
    """
    if all(len(row.pairs) == 1 for row in rows):
        return None
    branches_BT = _padded([row.branches for row in rows]).to(device)
    key_B1T, query_BT1 = branches_BT[:, None, :], branches_BT[:, :, None]
    width = branches_BT.shape[1]
    causal_TT = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    return (((key_B1T == 0) | (key_B1T == query_BT1)) & causal_TT)[:, None]


def _padded(lists: Sequence[Sequence[int]]) -> Tensor:
    width = max(map(len, lists))
    return torch.tensor([[*values, *[0] * (width - len(values))] for values in lists])
