"""The rows of a mixture: each belongs to one cell, a language, a source, a band of quality or the tokens of a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vernacular.foundation.errors import UserError
from vernacular.tokens.epochs import Epochs
from vernacular.tokens.packing import Batch, PackedRows, assemble
from vernacular.tokens.shard import Shard
from vernacular.tokens.shard_cache import ShardCache
from vernacular.tokens.shards import ShardReader, read_shards

By = Literal["language", "source", "quality", "cell", "tokens"]
PARTS_OF: Mapping[str, tuple[str, ...]] = {
    "language": ("language",),
    "source": ("source",),
    "quality": ("quality",),
    "cell": ("source", "language", "quality"),
}
"""What of a shard makes the name of its cell."""


def cell_name(part: Mapping[str, Any]) -> str:
    """The name of a cell: source, language and band, those that it is made of."""
    return ":".join(str(part[name]) for name in PARTS_OF["cell"] if part.get(name))


class MixedRows:
    """Rows of several cells, numbered through all of them in their order.

    Args:
        cells: the rows of each; all of one length.
    """

    def __init__(self, cells: Mapping[str, PackedRows]) -> None:
        self.cells = dict(cells)
        self.sizes = {cell: len(rows) for cell, rows in self.cells.items()}
        self.seq_length = next(iter(self.cells.values())).seq_length
        self._parts = list(self.cells.values())
        self._first_row = np.cumsum([0, *self.sizes.values()], dtype=np.int64)

    def __len__(self) -> int:
        """Rows of all cells, each once."""
        return int(self._first_row[-1])

    @property
    def shards(self) -> Sequence[Shard]:
        """The shards of all cells, in their order."""
        return [shard for rows in self._parts for shard in rows.shards]

    @property
    def epochs(self) -> dict[str, Epochs]:
        """How an epoch of each cell is shuffled."""
        return {cell: rows.epochs for cell, rows in self.cells.items()}

    def batch(self, indices: Sequence[int]) -> Batch:
        """The rows at `indices`, in that order."""
        parts = np.searchsorted(self._first_row, np.asarray(indices), side="right") - 1
        places = [
            (self._parts[part], index - int(self._first_row[part])) for index, part in zip(indices, parts, strict=True)
        ]
        return assemble([(rows.reader, rows.pieces(row)) for rows, row in places], self.seq_length)


def open_cells(
    folders: Mapping[str, Path],
    split: str,
    by: By,
    seq_length: int,
    *,
    window: int | None = None,
    cache: ShardCache | None = None,
) -> MixedRows:
    """The rows of each cell, as windows over its documents one after the other.

    Args:
        folders: folders of token shards by name; the names are the cells of `by="tokens"`.
        split: the split's name.
        by: what a cell is.
        seq_length: T, tokens the model reads in a row.
        window: shards of a cell that are shuffled together, at most; None: all.
        cache: where shards that lie elsewhere are kept.
    """
    if by == "tokens":
        readers = {name: ShardReader([folder], split, cache=cache) for name, folder in folders.items()}
    else:
        everywhere = list(folders.values())
        parts = {}
        for shard in read_shards(everywhere, split, cache):
            part = {name: getattr(shard, name) for name in PARTS_OF[by]}
            parts[cell_name(part)] = part
        if by == "quality" and "" in parts:
            raise UserError(
                "the tokens are not parted by quality",
                where="mixture.by",
                fix="tokenize with quality_bands, as [0.95], or mix by source, language or cell",
            )
        readers = {name: ShardReader(everywhere, split, cache=cache, **part) for name, part in sorted(parts.items())}
    cells = {
        name: PackedRows(reader, seq_length, window=window) for name, reader in readers.items() if reader.num_tokens > 1
    }
    if not cells:
        raise UserError("there is no text to train on", where=f"split {split}", fix="give the corpus more text")
    return MixedRows(cells)
