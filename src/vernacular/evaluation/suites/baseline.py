"""What always giving the commonest answer scores: the baseline of suites that subtract one, from the right answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from vernacular.evaluation.metrics.f1 import binary_f1, macro_f1


def majority_accuracy(targets: Sequence[str]) -> float:
    """Share of the commonest right answer."""
    return Counter(targets).most_common(1)[0][1] / len(targets)


def majority_macro_f1(targets: Sequence[str]) -> float:
    """Macro F1 of always giving the commonest answer, over the answers that occur."""
    (commonest, _), *_ = Counter(targets).most_common(1)
    return macro_f1([commonest] * len(targets), targets)


def always_positive_f1(targets: Sequence[str], positive: str) -> float:
    """F1 of always giving the positive answer: 2p/(1+p), p being its share."""
    return binary_f1([positive] * len(targets), targets, positive)


BASELINES: Mapping[str, Callable[[Sequence[str]], float]] = {
    "acc": majority_accuracy,
    "exact_match": majority_accuracy,
    "f1_macro": majority_macro_f1,
}
"""By metric, the baseline that the right answers alone give; binary F1 needs the positive answer too."""
