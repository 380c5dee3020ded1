"""Metrics against examples worked by hand."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.metrics.f1 import binary_f1, macro_f1, micro_f1
from vernacular.evaluation.metrics.levenshtein import edit_distance, is_accepted
from vernacular.evaluation.metrics.pass_at_k import pass_at_k
from vernacular.evaluation.metrics.registry import METRICS
from vernacular.evaluation.metrics.truthfulqa import NO_COMMENT, bleu, mc1, mc2
from vernacular.evaluation.scores import read_scores
from vernacular.foundation.errors import UserError


def test_f1_of_one_label() -> None:
    # B: given three times, twice rightly; two of three found. 2*2 / (2*2 + 1 + 1).
    answers, targets = ["B", "B", "B", "A"], ["B", "B", "A", "B"]
    assert binary_f1(answers, targets, "B") == pytest.approx(4 / 6)
    assert binary_f1(["A"], ["A"], "B") == 0.0


def test_macro_and_micro_are_told_apart() -> None:
    answers, targets = ["tak", "tak", "tak", "tak"], ["tak", "tak", "tak", "nie"]
    # tak: 2*3 / (2*3 + 1) = 6/7; nie: 0. Three of four are right.
    assert macro_f1(answers, targets) == pytest.approx(3 / 7)
    assert micro_f1(answers, targets) == 0.75


@pytest.mark.parametrize(("samples", "right", "k"), [(5, 2, 1), (5, 2, 3), (6, 1, 6), (4, 0, 2), (8, 7, 8)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(samples: int, right: int, k: int) -> None:
    draws = list(combinations(range(samples), k))
    share = sum(any(place < right for place in draw) for draw in draws) / len(draws)
    assert pass_at_k(samples, right, k) == pytest.approx(share)


def test_pass_at_k_of_fewer_samples_is_refused() -> None:
    with pytest.raises(UserError, match=r"pass@10 needs at least 10 samples per item, there are 5"):
        pass_at_k(5, 5, 10)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "żółw", 4), ("kot", "kot", 0), ("kitten", "sitting", 3), ("गाँव", "गाव", 1), ("Łódź", "łodz", 3)],
)
def test_edit_distance(one: str, other: str, distance: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == distance


@pytest.mark.parametrize(
    ("answer", "references", "accepted"),
    [
        ("Mikołaj Kopernik.", ["Mikołaj Kopernik"], True),
        ("kopernik", ["Mikołaj Kopernik"], False),  # 8 letters are missing, and 8 is not less than 16 / 2.
        ("m kopernik", ["Mikołaj Kopernik"], True),  # 6 are.
        ("w 1918 roku", ["1918"], True),
        ("w roku 1919", ["1918"], False),
        ("3.5 km", ["3,5 kilometra"], True),
        ("nie wiem", ["1918", "nie wiem"], True),
        ("bez odpowiedzi", ["w 1918"], False),
    ],
)
def test_the_rule_of_polqa(answer: str, references: list[str], accepted: bool) -> None:
    assert is_accepted(answer, references) is accepted


def test_the_published_code_of_poquad_loses_the_last_character_and_ours_only_when_told() -> None:
    assert is_accepted("1918", ["1918"])
    assert not is_accepted("1918", ["1918"], strip="poquad as published")
    assert is_accepted("1918.", ["1918"], strip="poquad as published")
    with pytest.raises(UserError, match="did you mean 'full stop'"):
        is_accepted("a", ["a"], strip="fullstop")


def test_truthfulqa_by_likelihood() -> None:
    assert mc1([-1.0, -2.0, -3.0]) == 1.0
    assert mc1([-2.0, -1.0]) == 0.0
    # Probabilities 1/2, 1/4, 1/4 of which the first two are true.
    assert mc2([-1.0, -1.6931471805599454, -1.6931471805599454], [True, True, False]) == pytest.approx(0.75)


def test_truthfulqa_by_bleu() -> None:
    answer = "Nothing happens to you if you eat the seeds."
    found = bleu(answer, [answer], ["You grow a plant in your stomach after eating."])
    assert found.max == pytest.approx(100.0)
    assert 0 < found.diff <= 100
    assert found.acc == 1.0
    assert bleu(NO_COMMENT, ["Paris is the capital."], ["London is the capital."]).max == pytest.approx(100.0)


def test_own_metrics_are_scored_beside_the_harness_s(make_task, fake_model, tmp_path: Path) -> None:
    items = [
        {"question": q, "choices": ["tak", "nie"], "label": label} for q, label in (("1?", 0), ("2?", 0), ("3?", 1))
    ]
    metadata = {"version": 1, "metrics": ["f1_macro", "f1_micro", {"metric": "f1", "positive": "nie"}]}
    model = fake_model(score=lambda _, text: -1.0 if text == "tak" else -2.0)
    evaluate(EvaluateConfiguration(), model, make_task(items, metadata=metadata), None, tmp_path / "out")
    scores = {score["metric"]: score["value"] for score in read_scores(tmp_path / "out")["scores"]}
    assert scores["f1"] == 0.0
    assert scores["f1_micro"] == scores["acc"] == pytest.approx(2 / 3)
    assert scores["f1_macro"] == pytest.approx(0.4)  # tak: 2*2 / (2*2 + 1) = 0.8; nie: 0.


@pytest.mark.parametrize(
    ("entry", "message"),
    [("levenstein", "unknown metric of metadata.metrics"), ("f1", "needs its positive answer")],
)
def test_own_metrics_that_cannot_be_are_refused(entry: str, message: str, make_task, fake_model, tmp_path) -> None:
    items = [{"question": "?", "choices": ["tak", "nie"], "label": 0}]
    with pytest.raises(UserError, match=message):
        evaluate(
            EvaluateConfiguration(), fake_model(), make_task(items, metadata={"metrics": [entry]}), None, tmp_path / "o"
        )


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf++", "ter"])
def test_a_corpus_from_its_items_counts_is_sacrebleus(name: str) -> None:
    import sacrebleu

    answers = ["Kot śpi na dachu.", "गाँव में पुराना कुआँ है", "", "The ferry leaves with the tide today, not before"]
    targets = ["Kot śpi pod dachem.", "गाँव के पास एक पुराना कुआँ है", "nic", "The ferry leaves when the tide turns"]
    metric = METRICS["generate_until"][name]
    items = [
        metric.of_item([{"extracted": answer, "target": [target]}], {})
        for answer, target in zip(answers, targets, strict=True)
    ]
    whole = {
        "bleu": lambda: sacrebleu.corpus_bleu(answers, [targets]),
        "chrf": lambda: sacrebleu.corpus_chrf(answers, [targets]),
        "chrf++": lambda: sacrebleu.corpus_chrf(answers, [targets], word_order=2),
        "ter": lambda: sacrebleu.corpus_ter(answers, [targets]),
    }
    assert metric.aggregate(items) == pytest.approx(whole[name]().score, abs=1e-9)
