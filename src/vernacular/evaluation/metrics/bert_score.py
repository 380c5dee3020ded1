"""BERTScore (Zhang et al. 2020): how well the tokens of two texts find each other in an encoder's space.

As the package bert-score computes it, without rescaling: tokens are compared by the cosine of their vectors at one
layer, each finds its best counterpart, and the means of that are precision (over the answer's tokens), recall (over the
reference's) and their harmonic mean. The tokens that begin and end a text have no weight, but can be found. With `idf`
a token counts by the rarity of its kind among the references: log((n + 1) / (m + 1)), m of n references having it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vernacular.foundation.errors import UserError, machine_errors
from vernacular.foundation.files import files_under, sha256_file, sha256_json

_BATCH = 32
_SPACED = ("bart", "gpt2", "longformer", "roberta")
"""Kinds of model whose first word has a space before it, as any other."""


class Similarity(NamedTuple):
    """Precision, recall and F1; at most 1."""

    precision: float
    recall: float
    f1: float


class Encoder:
    """An encoder of a transformers folder, read up to one layer.

    Args:
        folder: its configuration, weights and tokenizer.
        layer: whose vectors are compared; 1 is the first block's, 0 the embeddings.

    Raises:
        UserError: the folder is none, or has no such layer.
    """

    def __init__(self, folder: Path, layer: int) -> None:
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        try:
            with machine_errors("reading the encoder", folder):
                kind = AutoConfig.from_pretrained(folder).model_type
                spaced = {"add_prefix_space": True} if kind in _SPACED else {}
                self._tokenizer = AutoTokenizer.from_pretrained(folder, **spaced)
                self._model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"no encoder can be read: {error}",
                where=folder,
                fix="name a folder with config.json, weights and a tokenizer, as transformers writes it",
            ) from error
        self._depth = int(self._model.config.num_hidden_layers)
        if not 0 <= layer <= self._depth:
            raise UserError(f"the encoder has {self._depth} layers, not {layer}", where="bert_score_layer")
        self.layer = layer
        hashes = {path.relative_to(folder).as_posix(): sha256_file(path) for path in files_under(folder)}
        self.hash = sha256_json(hashes)

    def tokens(self, text: str) -> list[int]:
        """A text's tokens, with those that begin and end it; cut at the encoder's length."""
        longest = min(self._tokenizer.model_max_length, getattr(self._model.config, "max_position_embeddings", 512))
        return list(self._tokenizer(text.strip(), truncation=True, max_length=longest)["input_ids"])

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that begin or end a text."""
        return frozenset(one for one in (self._tokenizer.cls_token_id, self._tokenizer.sep_token_id) if one is not None)

    @torch.inference_mode()
    def vectors(self, texts: Sequence[Sequence[int]], report: Callable[[int], object]) -> list[Tensor]:
        """Unit vectors of each text's tokens, [tokens, width]; texts of like length share a batch."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            longest = len(texts[places[-1]])
            padding = self._tokenizer.pad_token_id or 0
            ids = torch.tensor([[*texts[place], *[padding] * (longest - len(texts[place]))] for place in places])
            mask = torch.tensor([[1] * len(texts[place]) + [0] * (longest - len(texts[place])) for place in places])
            states = self._model(ids, attention_mask=mask, output_hidden_states=True).hidden_states[self.layer]
            units = torch.nn.functional.normalize(states, dim=-1)
            found |= {place: units[row, : len(texts[place])].clone() for row, place in enumerate(places)}
            report(len(places))
        return [found[place] for place in range(len(texts))]


def weights_by_rarity(references: Sequence[Sequence[int]]) -> Callable[[int], float]:
    """A token's weight: the logarithm of how rare it is among the references."""
    count = Counter(token for reference in references for token in set(reference))
    return lambda token: math.log((len(references) + 1) / (count[token] + 1))


def similarity(
    answer: Tensor, reference: Tensor, answer_weights: Sequence[float], reference_weights: Sequence[float]
) -> Similarity:
    """Greedy matching of two texts' unit vectors; 0 where a text has no token of any weight."""
    cosines = answer @ reference.T
    precision = _weighted(cosines.max(dim=1).values, answer_weights)
    recall = _weighted(cosines.max(dim=0).values, reference_weights)
    total = precision + recall
    return Similarity(precision, recall, 2 * precision * recall / total if total else 0.0)


def _weighted(values: Tensor, weights: Sequence[float]) -> float:
    total = sum(weights)
    return (
        float(sum(float(value) * weight for value, weight in zip(values, weights, strict=True)) / total)
        if total
        else 0.0
    )


def bert_scores(
    encoder: Encoder,
    answers: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    idf: bool,
    report: Callable[[int], object] = lambda done: None,
) -> list[Similarity]:
    """Each answer's similarity to the nearest of its references, by F1.

    Args:
        encoder: whose space is used.
        answers: what is scored; an empty one has 0.
        references: of each answer, one or more.
        idf: whether rare tokens count more; rarity is that among all references.
        report: is told of texts that were read.
    """
    texts = list(dict.fromkeys([*answers, *(one for several in references for one in several)]))
    tokens = dict(zip(texts, map(encoder.tokens, texts), strict=True))
    vectors = dict(zip(texts, encoder.vectors([tokens[text] for text in texts], report), strict=True))
    weigh = weights_by_rarity([tokens[one] for several in references for one in several]) if idf else lambda token: 1.0

    def weights(text: str) -> list[float]:
        return [0.0 if token in encoder.ends else weigh(token) for token in tokens[text]]

    def pairs(number: int) -> Iterator[Similarity]:
        for reference in references[number]:
            answer = answers[number]
            yield similarity(vectors[answer], vectors[reference], weights(answer), weights(reference))

    return [max(pairs(number), key=lambda found: found.f1) for number in range(len(answers))]
