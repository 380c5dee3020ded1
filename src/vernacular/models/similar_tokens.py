"""Old tokens that are like a new one in a space of word vectors, to make its row of theirs.

Sources: Dobler and de Melo, FOCUS (arXiv 2305.14481): the tokens that both tokenizers have are weighted by the
sparsemax (Martins and Astudillo, arXiv 1602.02068) of their cosine similarities to the new one.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vernacular.foundation.errors import UserError
from vernacular.tokens.characters import whole_text
from vernacular.tokens.token_bytes import token_bytes
from vernacular.tokens.token_map import TokenMap
from vernacular.tokens.tokenizer import Tokenizer


class Recipe(NamedTuple):
    """How new rows are made of old ones: row i is `weights[i] · old[sources[i]]`, summed."""

    sources: Tensor
    weights: Tensor


def similar_tokens(path: Path, tokens: TokenMap, new: Tokenizer) -> dict[int, Recipe]:
    """For each new token with a vector: the old tokens like it, weighted by the sparsemax of cosine similarities."""
    words = [(whole_text(content) or "").strip() for content in token_bytes(new)]
    vectors = read_vectors(path, set(words) - {""})
    anchors = [(new_id, old_id) for new_id, old_id in tokens.kept.items() if words[new_id] in vectors]
    wanted = [new_id for new_id in tokens.pieces if words[new_id] in vectors]
    if not anchors or not wanted:
        missing = "old" if not anchors else "new"
        raise UserError(f"no {missing} token has a vector", where=path, fix="take vectors of both languages' words")
    anchors_AE = np.stack([vectors[words[new_id]] for new_id, _ in anchors])
    old_ids = torch.tensor([old_id for _, old_id in anchors])
    recipes: dict[int, Recipe] = {}
    for new_id in wanted:
        weights_A = sparsemax(anchors_AE @ vectors[words[new_id]])
        chosen = np.flatnonzero(weights_A)
        recipes[new_id] = Recipe(old_ids[torch.from_numpy(chosen)], torch.from_numpy(weights_A[chosen]).float())
    return recipes


def read_vectors(path: Path, words: set[str]) -> dict[str, np.ndarray]:
    """Vectors of length 1, by word, of those of `words` that a file of word vectors has (word2vec's text format)."""
    vectors: dict[str, np.ndarray] = {}
    width: int | None = None
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                word, *numbers = line.rstrip("\n").split(" ")
                if number == 1 and len(numbers) == 1:
                    continue  # the header: how many, how wide
                width = width or len(numbers)
                if len(numbers) != width:
                    raise UserError(f"{len(numbers)} numbers instead of {width}", where=f"{path}:{number}")
                if word in words:
                    vector = np.array(numbers, dtype=np.float32)
                    vectors[word] = vector / max(float(np.linalg.norm(vector)), 1e-12)
    except FileNotFoundError as error:
        raise UserError("file not found", where=path, fix="check the path") from error
    except ValueError as error:
        raise UserError(f"not a file of word vectors: {error}", where=f"{path}:{number}") from error
    return vectors


def sparsemax(scores_A: np.ndarray) -> np.ndarray:
    """The distribution nearest to the scores: `max(score - t, 0)` with t such that they sum to 1; most are 0."""
    ordered = np.sort(scores_A)[::-1].astype(np.float64)
    sums = np.cumsum(ordered)
    size = int(np.count_nonzero(1 + np.arange(1, len(ordered) + 1) * ordered > sums))
    threshold = (sums[size - 1] - 1) / size
    weights: np.ndarray = np.maximum(scores_A - threshold, 0)
    return weights
