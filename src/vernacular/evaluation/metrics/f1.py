"""F1 of labels: of one positive label, macro (mean over labels), micro (over all decisions)."""

from __future__ import annotations

from collections.abc import Sequence


def binary_f1(answers: Sequence[str], targets: Sequence[str], positive: str) -> float:
    """2·tp / (2·tp + fp + fn) for one label; 0 where it neither occurs nor is given."""
    pairs = list(zip(answers, targets, strict=True))
    hits = sum(answer == target == positive for answer, target in pairs)
    wrong = sum((answer == positive) != (target == positive) for answer, target in pairs)
    return 2 * hits / (2 * hits + wrong) if hits or wrong else 0.0


def macro_f1(answers: Sequence[str], targets: Sequence[str]) -> float:
    """Mean of the F1 of every label that occurs as an answer or as a target, as scikit-learn has it."""
    labels = sorted({*answers, *targets})
    return sum(binary_f1(answers, targets, label) for label in labels) / len(labels)


def micro_f1(answers: Sequence[str], targets: Sequence[str]) -> float:
    """F1 over all decisions together: for one label per item, the share of right answers."""
    return sum(answer == target for answer, target in zip(answers, targets, strict=True)) / len(targets)
