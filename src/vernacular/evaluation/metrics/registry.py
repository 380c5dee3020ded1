"""Metrics as functions of the records alone, so that a number can be recomputed without model, tokenizer or task.

Each is the metric of that name in lm-evaluation-harness 0.4.13, and is compared with it on every run; those of `OWN`
the harness does not have, or not for every kind of task. A metric that is in neither is refused before anything is run,
for what cannot be recomputed cannot be verified.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from vernacular.evaluation.instructions.metrics import INSTRUCTION_METRICS
from vernacular.evaluation.judge.metrics import JUDGE_METRICS
from vernacular.evaluation.metrics.answers import (
    ANSWER_METRICS,
    macro,
    micro,
    positive_f1,
    with_positive,
)
from vernacular.evaluation.metrics.metric import Metric, Options, argmax, mean
from vernacular.evaluation.metrics.pass_at_k import pass_at_k
from vernacular.evaluation.metrics.translation import TRANSLATION_METRICS
from vernacular.evaluation.metrics.truthfulqa import mc2
from vernacular.evaluation.records import Row
from vernacular.foundation.errors import UserError
from vernacular.tokens.measures import count_graphemes

# ---------------------------------------------------------------------------------------------- multiple choice


def _acc(rows: Sequence[Row], options: Options) -> float:
    return float(rows[argmax([row["log_probability"] for row in rows])]["is_target"])


def _acc_norm(rows: Sequence[Row], options: Options) -> float:
    return float(rows[argmax([row["log_probability"] / len(row["choice"]) for row in rows])]["is_target"])


def _acc_bytes(rows: Sequence[Row], options: Options) -> float:
    normed = [row["log_probability"] / len(row["choice"].encode("utf-8")) for row in rows]
    return float(rows[argmax(normed)]["is_target"])


def _foundry_acc(rows: Sequence[Row], options: Options) -> float:
    """llm-foundry's: the choice whose tokens have the lowest mean loss."""
    if any(not row["num_tokens"] for row in rows):
        raise UserError(
            "the back-end does not say how many tokens a choice has, which the lowest mean loss needs",
            where=rows[0]["task"],
            fix="evaluate with another back-end",
        )
    return float(rows[argmax([row["log_probability"] / row["num_tokens"] for row in rows])]["is_target"])


def _mc2(rows: Sequence[Row], options: Options) -> float:
    return mc2([row["log_probability"] for row in rows], [row["is_target"] for row in rows])


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


def _per_grapheme(rows: Sequence[Row], options: Options) -> tuple[float, int]:
    return rows[0]["log_probability"], count_graphemes(rows[0]["prompt"])


def _perplexity(values: Sequence[float]) -> float:
    return math.exp(-mean(values))


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


def _chosen_and_target(rows: Sequence[Row], options: Options) -> tuple[str, str]:
    return rows[0]["target"][0], rows[argmax([row["log_probability"] for row in rows])]["choice"]


METRICS: Mapping[str, Mapping[str, Metric]] = {
    "multiple_choice": {
        "acc": Metric(_acc, mean, "mean", True, True),
        "acc_norm": Metric(_acc_norm, mean, "mean", True, True),
        "acc_bytes": Metric(_acc_bytes, mean, "mean", True, True),
        "brier_score": Metric(_brier, mean, "brier_score", False, False),
    },
    "loglikelihood": {
        "acc": Metric(_is_greedy, mean, "mean", True, True),
        "perplexity": Metric(_log_probability, _perplexity, "perplexity", False, False),
    },
    "loglikelihood_rolling": {
        "word_perplexity": Metric(_per_word, _weighted_perplexity, "weighted_perplexity", False, False),
        "byte_perplexity": Metric(_per_byte, _weighted_perplexity, "weighted_perplexity", False, False),
        "bits_per_byte": Metric(_per_byte, _bits, "bits_per_byte", False, False),
    },
    "generate_until": {
        "exact_match": Metric(_exact_match, mean, "mean", True, True),
        **TRANSLATION_METRICS,
    },
}
"""By the harness's kind of task (`output_type`), the metrics that can be recomputed."""

OWN: Mapping[str, Mapping[str, Metric]] = {
    "multiple_choice": {
        "foundry_acc": Metric(_foundry_acc, mean, "mean", True, True),
        "mc2": Metric(_mc2, mean, "mean", False, True),
        "f1": Metric(with_positive(_chosen_and_target), positive_f1, "f1", False, True),
        "f1_macro": Metric(_chosen_and_target, macro, "f1_macro", False, True),
        "f1_micro": Metric(_chosen_and_target, micro, "f1_micro", False, True),
    },
    "loglikelihood": {"foundry_acc": Metric(_is_greedy, mean, "mean", True, True)},
    "loglikelihood_rolling": {
        "bits_per_grapheme": Metric(_per_grapheme, _bits, "bits_per_byte", False, False),
    },
    "generate_until": {**ANSWER_METRICS, **INSTRUCTION_METRICS, **JUDGE_METRICS},
}
"""Those a task names under `metadata.metrics`. `f1` has the option `positive`, `levenshtein` the option `strip`."""


def find_metric(kind: str, name: str) -> Metric:
    """The metric of a kind of task; `KeyError` for one that is in neither table."""
    return METRICS[kind].get(name) or OWN[kind].get(name) or _pass_at(name)


def has_metric(kind: str, name: str) -> bool:
    """Whether a kind of task has a metric."""
    is_pass = kind == "generate_until" and _PASS.fullmatch(name) is not None
    return name in METRICS[kind] or name in OWN.get(kind, {}) or is_pass


_PASS = re.compile(r"pass@([1-9][0-9]*)")


def _pass_at(name: str) -> Metric:
    """pass@k for any k: of an item's rows, each of which is a program that passed or did not."""
    found = _PASS.fullmatch(name)
    if found is None:
        raise KeyError(name)
    k = int(found[1])

    def of_item(rows: Sequence[Row], options: Options) -> float:
        return pass_at_k(len(rows), sum(row["correct"] for row in rows), k)

    return Metric(of_item, mean, "mean", False, True)
