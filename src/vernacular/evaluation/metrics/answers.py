"""Metrics of free answers that the harness does not have: each from the item's rows of the record alone."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vernacular.evaluation.metrics import reading, truthfulqa
from vernacular.evaluation.metrics.f1 import binary_f1, macro_f1, micro_f1
from vernacular.evaluation.metrics.levenshtein import is_accepted
from vernacular.evaluation.metrics.metric import Metric, Options, mean
from vernacular.evaluation.records import Row
from vernacular.foundation.errors import missing_extra

Triple = tuple[str, str, str]


def answer_and_target(rows: Sequence[Row], options: Options) -> tuple[str, str]:
    """(right answer, given answer). `unread` is the label that an answer outside `labels` counts as."""
    answer = rows[0]["extracted"]
    if "unread" in options and answer not in options["labels"]:
        answer = options["unread"]
    return rows[0]["target"][0], answer


def with_positive(pair: Callable[[Sequence[Row], Options], tuple[str, str]]) -> Callable[..., Triple]:
    """(right, given, positive answer)."""

    def triple(rows: Sequence[Row], options: Options) -> Triple:
        return (*pair(rows, options), str(options["positive"]))

    return triple


def positive_f1(pairs: Sequence[Triple]) -> float:
    """F1 of the positive answer."""
    return binary_f1([answer for _, answer, _ in pairs], [target for target, _, _ in pairs], pairs[0][2])


def macro(pairs: Sequence[tuple[str, str]]) -> float:
    """Macro F1."""
    return macro_f1([answer for _, answer in pairs], [target for target, _ in pairs])


def micro(pairs: Sequence[tuple[str, str]]) -> float:
    """Micro F1."""
    return micro_f1([answer for _, answer in pairs], [target for target, _ in pairs])


def _levenshtein(rows: Sequence[Row], options: Options) -> float:
    return float(is_accepted(rows[0]["extracted"], rows[0]["target"], options.get("strip", "full stop")))


def _squad(score: Callable[[str, Sequence[str], str | None], float]) -> Callable[[Sequence[Row], Options], float]:
    """SQuAD's; an answer that is the option `none` counts as none given."""

    def of_item(rows: Sequence[Row], options: Options) -> float:
        row = rows[0]
        given = "" if row["extracted"].strip() == options.get("none") else row["extracted"]
        return score(given, [one for one in row["target"] if one != options.get("none")], row["language"])

    return of_item


def _foundry_exact(rows: Sequence[Row], options: Options) -> float:
    """llm-foundry's: after normalisation the answer starts with a right one."""
    given = _foundry_normalised(rows[0]["extracted"])
    return float(any(given.startswith(_foundry_normalised(target)) for target in rows[0]["target"]))


def _foundry_normalised(text: str) -> str:
    """Lower case, no articles, no punctuation, single spaces; an underscore is a space."""
    kept = re.sub(r"\b(a|an|the)\b", " ", text.lower().replace("_", " "))
    return " ".join("".join(letter for letter in kept if unicodedata.category(letter)[0] not in "PS").split())


def _bleu(part: str) -> Callable[[Sequence[Row], Options], float]:
    def of_item(rows: Sequence[Row], options: Options) -> float:
        facts = json.loads(rows[0]["facts"])
        scores = truthfulqa.bleu(rows[0]["extracted"], facts["correct_answers"], facts["incorrect_answers"])
        return float(getattr(scores, part))

    return of_item


def _math_equal(rows: Sequence[Row], options: Options) -> float:
    """Whether the last boxed (or only) expression of the answer equals the right one, as math-verify judges."""
    try:
        from math_verify import parse, verify
    except ModuleNotFoundError as error:
        raise missing_extra("math-verify", "math", "comparing mathematical answers") from error
    return float(verify(parse(f"${rows[0]['target'][0]}$"), parse(rows[0]["extracted"])))


def _as_published(of_item: Callable[..., Any], **options: Any) -> Callable[[Sequence[Row], Options], Any]:
    """A metric with the options that repeat a quirk of the Open PL LLM Leaderboard's code."""

    def fixed(rows: Sequence[Row], _: Options) -> Any:
        return of_item(rows, options)

    return fixed


_F1_AS_PUBLISHED = _as_published(with_positive(answer_and_target), positive="C", labels="BC", unread="B")
_MACRO_AS_PUBLISHED = _as_published(answer_and_target, labels="ABCDEF", unread="A")
_LEVENSHTEIN_AS_PUBLISHED = _as_published(_levenshtein, strip="poquad as published")

BERT_SCORES = ("bert_score_precision", "bert_score_recall", "bert_score")


def _bert_score(place: int) -> Callable[[Sequence[Row], Options], float]:
    """A number that an encoder made of the answer when it was given; the record keeps it."""

    def of_item(rows: Sequence[Row], options: Options) -> float:
        return float(json.loads(rows[0]["facts"])["bert_score"][place])

    return of_item


ANSWER_METRICS: Mapping[str, Metric] = {
    **{name: Metric(_bert_score(place), mean, "mean", False, True) for place, name in enumerate(BERT_SCORES)},
    "f1": Metric(with_positive(answer_and_target), positive_f1, "f1", False, True),
    "f1_macro": Metric(answer_and_target, macro, "f1_macro", False, True),
    "f1_micro": Metric(answer_and_target, micro, "f1_micro", False, True),
    "levenshtein": Metric(_levenshtein, mean, "mean", True, True),
    "f1_as_published": Metric(_F1_AS_PUBLISHED, positive_f1, "f1", False, True),
    "f1_macro_as_published": Metric(_MACRO_AS_PUBLISHED, macro, "f1_macro", False, True),
    "levenshtein_as_published": Metric(_LEVENSHTEIN_AS_PUBLISHED, mean, "mean", True, True),
    "squad_exact": Metric(_squad(reading.exact), mean, "mean", True, True),
    "squad_f1": Metric(_squad(reading.token_f1), mean, "mean", False, True),
    "foundry_exact": Metric(_foundry_exact, mean, "mean", True, True),
    "math_equal": Metric(_math_equal, mean, "mean", True, True),
    "bleu_max": Metric(_bleu("max"), mean, "mean", False, True),
    "bleu_diff": Metric(_bleu("diff"), mean, "mean", False, True),
    "bleu_acc": Metric(_bleu("acc"), mean, "mean", True, True),
}
