"""Rows for training: a split's documents packed into rows of equal length, with everything the loss must know.

Two layouts:
- `stream`: windows of `seq_length + 1` tokens, `seq_length` apart, over the documents one after the other. Each token
  is a target once. The last window is filled up with padding; where rows end with their shard, the last of each.
- `conversations`: whole conversations, packed best-fit decreasing into rows; none is split.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError
from vernacular.tokens.epochs import Epochs, WholeEpochs, WindowedEpochs
from vernacular.tokens.shard import Shard
from vernacular.tokens.shards import ShardReader

Layout = Literal["stream", "conversations"]
Overlong = Literal["refuse", "truncate", "drop"]
Piece = tuple[int, int, int]
"""A part of a row: (document, start, stop), in tokens of its reader."""


@dataclass(frozen=True)
class Batch:
    """Rows of a step. B rows of T tokens; all arrays are [B, T].

    Attributes:
        ids_BT: int64, what the model reads.
        targets_BT: int64, the token that follows each.
        weights_BT: float32, weight of each target in the loss; 0 at padding and where it begins another document.
        positions_BT: int64, from 0 at each document's first token in the row.
        documents_BT: int64, which document of its row a token belongs to; -1 is padding.
        names: for each row, its documents' ids.
    """

    ids_BT: NDArray[np.int64]
    targets_BT: NDArray[np.int64]
    weights_BT: NDArray[np.float32]
    positions_BT: NDArray[np.int64]
    documents_BT: NDArray[np.int64]
    names: tuple[tuple[str, ...], ...]

    def document_names(self) -> list[str]:
        """Ids of all documents in the batch, each once, in order."""
        return list(dict.fromkeys(name for row in self.names for name in row))


class Rows(Protocol):
    """Rows of equal length, by their number."""

    def __len__(self) -> int:
        """Rows in an epoch."""
        ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """The rows at `indices`, in that order."""
        ...


def assemble(rows: Sequence[tuple[ShardReader, Sequence[Piece]]], seq_length: int) -> Batch:
    """Rows made of pieces, each of one reader, as a batch."""
    shape = (len(rows), seq_length + 1)
    ids = np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    positions = np.zeros(shape, dtype=np.int64)
    documents = np.full(shape, -1, dtype=np.int64)
    for row, (reader, pieces) in enumerate(rows):
        cursor = 0
        for number, (_, start, stop) in enumerate(pieces):
            here = slice(cursor, cursor + stop - start)
            ids[row, here] = reader.slice(start, stop)
            weights[row, here] = reader.weights(start, stop)
            positions[row, here] = np.arange(stop - start)
            documents[row, here] = number
            cursor = here.stop
        ids[row, cursor:] = reader.pad_id
    same_document = documents[:, 1:] == documents[:, :-1]
    return Batch(
        ids_BT=ids[:, :-1].copy(),
        targets_BT=ids[:, 1:].copy(),
        weights_BT=np.where(same_document, weights[:, 1:], np.float32(0)),
        positions_BT=positions[:, :-1].copy(),
        documents_BT=documents[:, :-1].copy(),
        names=tuple(tuple(reader.document_name(document) for document, _, _ in pieces) for reader, pieces in rows),
    )


class PackedRows:
    """The rows of a split. Memory does not grow with the tokens; for conversations, a few bytes for each.

    Args:
        reader: the split's shards.
        seq_length: T, tokens the model reads in a row. A row holds one token more, which is only a target.
        layout: `stream` or `conversations`.
        overlong: what happens to a conversation of more than T + 1 tokens: `refuse` it by name, `truncate` it at its
            end, or `drop` it. A truncated one that has lost all its loss-bearing tokens is dropped.
        window: shards whose rows are shuffled together, at most; the rows of a `stream` then end with their shard.
            None: all of them.
    """

    def __init__(
        self,
        reader: ShardReader,
        seq_length: int,
        layout: Layout = "stream",
        *,
        overlong: Overlong = "refuse",
        window: int | None = None,
    ) -> None:
        if seq_length < 1:
            message = f"sequence_length is {seq_length}; a row needs at least 1 token"
            raise UserError(message, where="sequence_length", fix="raise it")
        self.reader = reader
        self.seq_length = seq_length
        self.layout = layout
        self.window = window
        self.truncated = self.dropped = 0
        # Stretches of tokens that rows do not go beyond, and the rows before each.
        self._stretches = reader.token_starts if window is not None else reader.token_starts[[0, -1]]
        self._first_row = np.cumsum([0, *_rows_in(np.diff(self._stretches), seq_length)], dtype=np.int64)
        if layout == "conversations":
            lengths = self._usable_lengths(overlong)
            self._documents, self._row_starts = pack_best_fit(lengths, seq_length + 1)
        if len(self) == 0:
            raise UserError(
                f"the split '{reader.split}' has no row to train on: {reader.num_tokens} tokens in"
                f" {reader.num_documents} documents, {self.dropped} dropped",
                where=reader.folder,
                fix="raise sequence_length, or set overlong: truncate"
                if self.dropped
                else "give it more text, or have less of it held out",
            )

    def __len__(self) -> int:
        """Rows in an epoch."""
        if self.layout == "conversations":
            return len(self._row_starts) - 1
        return int(self._first_row[-1])

    @property
    def shards(self) -> Sequence[Shard]:
        """The shards they lie in."""
        return self.reader.shards

    @property
    def epochs(self) -> Epochs:
        """How an epoch of them is shuffled."""
        if self.window is None:
            return WholeEpochs(len(self), len(self.shards))
        return WindowedEpochs(np.diff(self._first_row).tolist(), self.window)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The rows at `indices`, in that order."""
        return assemble([(self.reader, self.pieces(index)) for index in indices], self.seq_length)

    def pieces(self, row: int) -> list[Piece]:
        """What a row is made of: (document, start, stop) in tokens of the split, one after the other."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        if self.layout == "conversations":
            chosen = self._documents[self._row_starts[row] : self._row_starts[row + 1]]
            ranges = [(int(document), *self.reader.document_range(int(document))) for document in chosen]
            return [(document, start, min(stop, start + self.seq_length + 1)) for document, start, stop in ranges]
        stretch = int(np.searchsorted(self._first_row, row, side="right")) - 1
        start = int(self._stretches[stretch]) + (row - int(self._first_row[stretch])) * self.seq_length
        stop = min(start + self.seq_length + 1, int(self._stretches[stretch + 1]))
        pieces = []
        document = self.reader.document_at(start)
        while start < stop:
            end = min(self.reader.document_range(document)[1], stop)
            if end > start:
                pieces.append((document, start, end))
            start, document = end, document + 1
        return pieces

    def _usable_lengths(self, overlong: Overlong) -> NDArray[np.int64]:
        """Tokens that each conversation takes in a row; 0 leaves it out."""
        lengths = self.reader.document_lengths()
        capacity = self.seq_length + 1
        for document in np.flatnonzero(lengths > capacity):
            if overlong == "refuse":
                raise UserError(
                    f"{self._describe(int(document))} has {lengths[document]} tokens; a row holds {capacity}",
                    where=self.reader.folder,
                    fix=f"set sequence_length to at least {lengths.max() - 1}, or overlong to truncate or drop",
                )
            start, _ = self.reader.document_range(int(document))
            keeps_loss = overlong == "truncate" and self.reader.weights(start + 1, start + capacity).any()
            lengths[document] = capacity if keeps_loss else 0
            self.truncated += int(keeps_loss)
            self.dropped += int(not keeps_loss)
        return lengths

    def _describe(self, document: int) -> str:
        """The conversation as its file calls it, where the shards came with a listing."""
        listing = self.reader.folder / self.reader.split / "conversations.jsonl"
        name = self.reader.document_name(document)
        if listing.is_file():
            with open(listing, encoding="utf-8") as file:
                for record in map(json.loads, file):
                    if record["name"] == name:
                        return f"the conversation '{record['id']}' (line {record['line']} of its file)"
        return f"the document {name}"


def _rows_in(tokens: NDArray[np.int64], seq_length: int) -> NDArray[np.int64]:
    """Rows over stretches of so many tokens; the first token of each is no target."""
    return (np.maximum(tokens - 1, 0) + seq_length - 1) // seq_length


def pack_best_fit(lengths: NDArray[np.int64], capacity: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put items into as few bins as best-fit decreasing finds: longest first, each where it leaves the least space.

    Args:
        lengths: int64 [N], at most `capacity` each; items of length 0 are left out.
        capacity: what a bin holds.

    Returns:
        (items, starts): bin b holds items[starts[b]:starts[b + 1]], in ascending order.
    """
    bin_of = np.full(len(lengths), -1, dtype=np.int64)
    num_bins = 0
    spaces: list[int] = []  # the distinct amounts of space left in some bin, ascending
    bins_with: dict[int, list[int]] = {}
    for item in np.argsort(-lengths, kind="stable"):
        length = int(lengths[item])
        if length == 0:
            break
        at = bisect_left(spaces, length)
        if at == len(spaces):
            chosen, space = num_bins, capacity
            num_bins += 1
        else:
            space = spaces[at]
            chosen = bins_with[space].pop()
            if not bins_with[space]:
                del bins_with[space]
                del spaces[at]
        bin_of[item] = chosen
        left = space - length
        if left:
            if left not in bins_with:
                bins_with[left] = []
                insort(spaces, left)
            bins_with[left].append(chosen)
    items = np.argsort(bin_of, kind="stable")[np.count_nonzero(bin_of < 0) :]
    starts = np.searchsorted(bin_of[items], np.arange(num_bins + 1))
    return items.astype(np.int64), starts.astype(np.int64)
