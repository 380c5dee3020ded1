"""Corpus scores of translations: BLEU, chrF, chrF++ and TER, sacrebleu's, from counts that are made once for each item.

A corpus's score is that of the sum of its items' counts, so that a bootstrap need not compare the texts again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vernacular.evaluation.metrics.metric import Metric, Options
from vernacular.evaluation.records import Row


@functools.cache
def _scorer(name: str) -> Any:
    """sacrebleu's scorer with its own defaults; chrF++ is chrF with words of one and two."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    if name in ("chrf", "chrf++"):
        return CHRF(word_order=2 if name == "chrf++" else 0)
    return BLEU() if name == "bleu" else TER()


def _counts(name: str) -> Callable[[Sequence[Row], Options], list[float]]:
    def of_item(rows: Sequence[Row], options: Options) -> list[float]:
        answer, target = rows[0]["extracted"], rows[0]["target"][0]
        (counts,) = _scorer(name)._extract_corpus_statistics([answer], [[target]])
        return [float(count) for count in counts]

    return of_item


def _score(name: str) -> Callable[[Sequence[Sequence[float]]], float]:
    def aggregate(items: Sequence[Sequence[float]]) -> float:
        total = np.asarray(items, dtype=np.float64).sum(axis=0).tolist()
        return float(_scorer(name)._compute_score_from_stats(total).score)

    return aggregate


TRANSLATION_METRICS: Mapping[str, Metric] = {
    name: Metric(_counts(name), _score(name), name, False, name != "ter") for name in ("bleu", "chrf", "chrf++", "ter")
}
"""Those that the harness has too; it compares the texts themselves, which is the check of these."""
