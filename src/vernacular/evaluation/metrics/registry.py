"""Metrics as functions of the records alone, so that a number can be recomputed without model, tokenizer or task.

Each is the metric of that name in lm-evaluation-harness 0.4.13, and is compared with it on every run; those of `OWN`
the harness does not have, or not for every kind of task. A metric that is in neither is refused before anything is run,
for what cannot be recomputed cannot be verified.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vernacular.evaluation.metrics.f1 import binary_f1, macro_f1, micro_f1
from vernacular.evaluation.metrics.levenshtein import is_accepted
from vernacular.evaluation.records import Row

Options = Mapping[str, Any]


class Metric(NamedTuple):
    """A metric of one kind of task.

    Attributes:
        of_item: the item's value, from its rows and the task's options for the metric.
        aggregate: the task's value, from its items'.
        aggregation: what the harness calls this aggregate.
        is_share: whether items are 0 or 1, so that the value is a share of them.
        higher_is_better: which way is up.
    """

    of_item: Callable[[Sequence[Row], Options], Any]
    aggregate: Callable[[Sequence[Any]], float]
    aggregation: str
    is_share: bool
    higher_is_better: bool


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


# ---------------------------------------------------------------------------------------------- multiple choice


def _acc(rows: Sequence[Row], options: Options) -> float:
    return float(rows[_argmax([row["log_probability"] for row in rows])]["is_target"])


def _acc_norm(rows: Sequence[Row], options: Options) -> float:
    return float(rows[_argmax([row["log_probability"] / len(row["choice"]) for row in rows])]["is_target"])


def _acc_bytes(rows: Sequence[Row], options: Options) -> float:
    normed = [row["log_probability"] / len(row["choice"].encode("utf-8")) for row in rows]
    return float(rows[_argmax(normed)]["is_target"])


def _brier(rows: Sequence[Row], options: Options) -> float:
    scores = np.array([row["log_probability"] for row in rows])
    weights = np.exp(scores - scores.max())
    truth = np.array([float(row["is_target"]) for row in rows])
    return float(((weights / weights.sum() - truth) ** 2).sum())


# ----------------------------------------------------------------------------------- log-probability of one text


def _is_greedy(rows: Sequence[Row], options: Options) -> float:
    return float(rows[0]["is_greedy"])


def _log_probability(rows: Sequence[Row], options: Options) -> float:
    return float(rows[0]["log_probability"])


def _per_word(rows: Sequence[Row], options: Options) -> tuple[float, int]:
    return rows[0]["log_probability"], len(re.split(r"\s+", rows[0]["prompt"]))


def _per_byte(rows: Sequence[Row], options: Options) -> tuple[float, int]:
    return rows[0]["log_probability"], len(rows[0]["prompt"].encode("utf-8"))


def _perplexity(values: Sequence[float]) -> float:
    return math.exp(-_mean(values))


def _ratio(items: Sequence[tuple[float, int]]) -> float:
    total, count = np.asarray(items, dtype=np.float64).sum(axis=0)
    return float(total / count)


def _weighted_perplexity(items: Sequence[tuple[float, int]]) -> float:
    return math.exp(-_ratio(items))


def _bits(items: Sequence[tuple[float, int]]) -> float:
    return -_ratio(items) / math.log(2)


# ------------------------------------------------------------------------------------------------------ answers


def _exact_match(rows: Sequence[Row], options: Options) -> float:
    # The harness's own function: its ways of ignoring case, punctuation and digits are part of its definition.
    from lm_eval.api.metrics import exact_match_hf_evaluate

    answer, targets = rows[0]["extracted"], rows[0]["target"]
    score = exact_match_hf_evaluate(predictions=[answer] * len(targets), references=targets, **options)["exact_match"]
    return float(score > 0)


def _answer_and_target(rows: Sequence[Row], options: Options) -> tuple[str, str]:
    return rows[0]["target"][0], rows[0]["extracted"]


def _corpus(name: str) -> Callable[[Sequence[tuple[str, str]]], float]:
    def score(pairs: Sequence[tuple[str, str]]) -> float:
        import sacrebleu

        answers, references = [answer for _, answer in pairs], [[target for target, _ in pairs]]
        if name == "bleu":
            return sacrebleu.corpus_bleu(answers, references).score
        if name == "ter":
            return sacrebleu.corpus_ter(answers, references).score
        return sacrebleu.corpus_chrf(answers, references, word_order=2 if name == "chrf++" else 0).score

    return score


def _chosen_and_target(rows: Sequence[Row], options: Options) -> tuple[str, str]:
    return rows[0]["target"][0], rows[_argmax([row["log_probability"] for row in rows])]["choice"]


def _positive_f1(pairs: Sequence[tuple[str, str, str]]) -> float:
    return binary_f1([answer for _, answer, _ in pairs], [target for target, _, _ in pairs], pairs[0][2])


def _with_positive(pair: Callable[[Sequence[Row], Options], tuple[str, str]]) -> Callable[..., tuple[str, str, str]]:
    def triple(rows: Sequence[Row], options: Options) -> tuple[str, str, str]:
        return (*pair(rows, options), str(options["positive"]))

    return triple


def _macro(pairs: Sequence[tuple[str, str]]) -> float:
    return macro_f1([answer for _, answer in pairs], [target for target, _ in pairs])


def _micro(pairs: Sequence[tuple[str, str]]) -> float:
    return micro_f1([answer for _, answer in pairs], [target for target, _ in pairs])


def _levenshtein(rows: Sequence[Row], options: Options) -> float:
    return float(is_accepted(rows[0]["extracted"], rows[0]["target"], options.get("strip", "full stop")))


METRICS: Mapping[str, Mapping[str, Metric]] = {
    "multiple_choice": {
        "acc": Metric(_acc, _mean, "mean", True, True),
        "acc_norm": Metric(_acc_norm, _mean, "mean", True, True),
        "acc_bytes": Metric(_acc_bytes, _mean, "mean", True, True),
        "brier_score": Metric(_brier, _mean, "brier_score", False, False),
    },
    "loglikelihood": {
        "acc": Metric(_is_greedy, _mean, "mean", True, True),
        "perplexity": Metric(_log_probability, _perplexity, "perplexity", False, False),
    },
    "loglikelihood_rolling": {
        "word_perplexity": Metric(_per_word, _weighted_perplexity, "weighted_perplexity", False, False),
        "byte_perplexity": Metric(_per_byte, _weighted_perplexity, "weighted_perplexity", False, False),
        "bits_per_byte": Metric(_per_byte, _bits, "bits_per_byte", False, False),
    },
    "generate_until": {
        "exact_match": Metric(_exact_match, _mean, "mean", True, True),
        "bleu": Metric(_answer_and_target, _corpus("bleu"), "bleu", False, True),
        "chrf": Metric(_answer_and_target, _corpus("chrf"), "chrf", False, True),
        "chrf++": Metric(_answer_and_target, _corpus("chrf++"), "chrf++", False, True),
        "ter": Metric(_answer_and_target, _corpus("ter"), "ter", False, False),
    },
}
"""By the harness's kind of task (`output_type`), the metrics that can be recomputed."""

OWN: Mapping[str, Mapping[str, Metric]] = {
    "multiple_choice": {
        "f1": Metric(_with_positive(_chosen_and_target), _positive_f1, "f1", False, True),
        "f1_macro": Metric(_chosen_and_target, _macro, "f1_macro", False, True),
        "f1_micro": Metric(_chosen_and_target, _micro, "f1_micro", False, True),
    },
    "generate_until": {
        "f1": Metric(_with_positive(_answer_and_target), _positive_f1, "f1", False, True),
        "f1_macro": Metric(_answer_and_target, _macro, "f1_macro", False, True),
        "f1_micro": Metric(_answer_and_target, _micro, "f1_micro", False, True),
        "levenshtein": Metric(_levenshtein, _mean, "mean", True, True),
    },
}
"""Those a task names under `metadata.metrics`. `f1` has the option `positive`, `levenshtein` the option `strip`."""


def find_metric(kind: str, name: str) -> Metric:
    """The metric of a kind of task; `KeyError` for one that is in neither table."""
    return METRICS[kind].get(name) or OWN[kind][name]


def has_metric(kind: str, name: str) -> bool:
    """Whether a kind of task has a metric."""
    return name in METRICS[kind] or name in OWN.get(kind, {})
