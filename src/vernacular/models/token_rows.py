"""Rows of an embedding table, or of an output head, for another tokenizer: kept ones as they are, new ones made.

Source: Hewitt, Initializing New Word Embeddings for Pretrained Language Models (2021): the mean, with the rows' own
covariance as noise. Similar tokens: see `similar_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vernacular.foundation.errors import UserError
from vernacular.models.configuration import ChangeTokenizerConfiguration
from vernacular.models.similar_tokens import Recipe, similar_tokens
from vernacular.tokens.token_bytes import token_bytes
from vernacular.tokens.token_map import TokenMap
from vernacular.tokens.tokenizer import Tokenizer

_IDS = "ids"


class TokenRows:
    """Makes a new table of an old one.

    Args:
        configuration: how new rows are made.
        tokens: which old token each new one is, or is spelt with.
        old: the old tokenizer.
        new: the new one.
        num_rows: rows of the new table, at least as many as the new tokenizer has ids.
    """

    def __init__(
        self,
        configuration: ChangeTokenizerConfiguration,
        tokens: TokenMap,
        old: Tokenizer,
        new: Tokenizer,
        num_rows: int,
    ) -> None:
        self.configuration = configuration
        self.tokens = tokens
        self.num_rows = num_rows
        self._lengths = [len(content) for content in token_bytes(old)]
        self._similar: Mapping[int, Recipe] = {}
        if configuration.vectors is not None:
            self._similar = similar_tokens(Path(configuration.vectors), tokens, new)

    @property
    def with_vector(self) -> int:
        """New tokens whose row is made of similar ones."""
        return len(self._similar)

    @torch.no_grad()
    def table(self, old_VD: Tensor, role: str) -> Tensor:
        """The new table, [num_rows, D] in the old one's dtype; kept rows bit for bit.

        Args:
            old_VD: the old table; rows beyond the old tokenizer's ids are padding.
            role: `embedding` or `head`.
        """
        known_VD = old_VD[: self.tokens.old_size]
        mean_D = known_VD.float().mean(0)
        new_VD = mean_D.to(old_VD.dtype).repeat(self.num_rows, 1)
        kept = list(self.tokens.kept.items())
        if kept:
            new_ids, old_ids = torch.tensor(kept).unbind(1)
            new_VD[new_ids] = old_VD[old_ids]
        if self.tokens.pieces:
            new_VD[torch.tensor(list(self.tokens.pieces))] = self._made(old_VD, mean_D, role).to(old_VD.dtype)
        return new_VD

    def _made(self, old_VD: Tensor, mean_D: Tensor, role: str) -> Tensor:
        """The rows of the new tokens in the order of their ids, float32 [N, D]."""
        configuration = self.configuration
        if configuration.new_tokens == "file":
            assert configuration.rows is not None
            return _given(Path(configuration.rows), role, list(self.tokens.pieces), old_VD.shape[1])
        if configuration.new_tokens == "mean":
            return _around(mean_D, old_VD[: self.tokens.old_size], len(self.tokens.pieces), configuration)
        recipes = (self._similar.get(new) or self._spelt(pieces) for new, pieces in self.tokens.pieces.items())
        return torch.stack([recipe.weights @ old_VD[recipe.sources].float() for recipe in recipes])

    def _spelt(self, pieces: Sequence[int]) -> Recipe:
        by_bytes = self.configuration.new_tokens == "pieces-by-bytes"
        weights = torch.tensor([max(1, self._lengths[piece]) if by_bytes else 1 for piece in pieces]).float()
        return Recipe(torch.tensor(pieces), weights / weights.sum())


def _around(mean_D: Tensor, known_VD: Tensor, count: int, configuration: ChangeTokenizerConfiguration) -> Tensor:
    """The mean, or draws from the normal distribution of the rows, its covariance times `noise` squared."""
    rows_ND = mean_D.repeat(count, 1)
    if not configuration.noise:
        return rows_ND
    generator = torch.Generator().manual_seed(configuration.seed)
    centred_VD = known_VD.float() - mean_D
    # A sum of centred rows with normal weights has their covariance; no D × D matrix is taken apart.
    drawn_NV = torch.randn(count, len(centred_VD), generator=generator)
    return rows_ND + configuration.noise * drawn_NV @ centred_VD / max(1, len(centred_VD) - 1) ** 0.5


def _given(path: Path, role: str, ids: list[int], width: int) -> Tensor:
    """The rows that a file gives, in the order of `ids`."""
    tensors = _read(path)
    for name in (_IDS, role):
        if name not in tensors:
            raise UserError(f"the file has no tensor `{name}`", where=path, fix=f"it holds {', '.join(tensors)}")
    found, rows_ND = tensors[_IDS].flatten().tolist(), tensors[role].float()
    if sorted(found) != ids:
        raise UserError(
            f"`{_IDS}` must hold the {len(ids)} new tokens' ids, each once, and nothing else",
            where=path,
            fix="take them from token_map.json: the ids whose entry is a list",
        )
    if rows_ND.shape != (len(ids), width):
        raise UserError(f"`{role}` is {list(rows_ND.shape)}; it must be {[len(ids), width]}", where=path)
    place = {token: number for number, token in enumerate(found)}
    return rows_ND[torch.tensor([place[token] for token in ids])]


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError("file not found", where=path, fix="check the path") from error
    except SafetensorError as error:
        raise UserError(f"not a safetensors file: {error}", where=path, fix="write it with safetensors") from error
