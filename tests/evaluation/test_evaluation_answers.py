"""Metrics of free answers by hand: SQuAD's, TruthfulQA's, llm-foundry's, the Polish leaderboard's and its quirks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vernacular.evaluation.metrics.answers import ANSWER_METRICS
from vernacular.evaluation.metrics.reading import exact, normalised, token_f1
from vernacular.evaluation.metrics.registry import OWN


def value(name: str, items: list[tuple[str, list[str]]], /, language: str = "pl", **options: Any) -> float:
    metric = ANSWER_METRICS[name]
    rows = [[{"extracted": answer, "target": targets, "language": language}] for answer, targets in items]
    return metric.aggregate([metric.of_item(row, options) for row in rows])


@pytest.mark.parametrize(
    ("language", "text", "tokens"),
    [
        ("en", "The  quick, “brown” fox!", ["quick", "brown", "fox"]),
        ("de", "Die schnelle Katze", ["schnelle", "katze"]),
        ("fr", "l’École d'art", ["école", "art"]),
        ("hi", "भारत की राजधानी।", ["भारत", "की", "राजधानी"]),
        ("pl", "w piekarni", ["w", "piekarni"]),
        ("zh", "北京 2008年", ["北", "京", "2008", "年"]),
        ("th", "ดีใจ", ["ดี", "ใ", "จ"]),
    ],
)
def test_tokens_are_the_languages(language, text, tokens) -> None:
    assert normalised(text, language) == tokens


def test_token_f1_and_exact_match_by_hand() -> None:
    # Answer {brown, fox}, reference {quick, brown, fox}: precision 1, recall 2/3, F1 0.8; the other reference gives 0.
    assert token_f1("the brown fox", ["the quick brown fox", "a cat"], "en") == pytest.approx(0.8)
    assert exact("The Brown Fox.", ["brown fox"], "en") == 1.0
    assert token_f1("", [], "en") == exact("", [], "en") == 1.0
    assert token_f1("fox", [], "en") == 0.0


def test_an_answer_that_says_there_is_none() -> None:
    items = [("unanswerable", ["unanswerable"]), ("308", ["unanswerable"]), ("308", ["308", "308 points"])]
    assert value("squad_exact", items, language="en", none="unanswerable") == pytest.approx(2 / 3)
    assert value("squad_f1", items, language="en", none="unanswerable") == pytest.approx(2 / 3)


def test_llm_foundrys_answers_start_with_a_right_one() -> None:
    items = [
        ("The Onion, of course", ["onion skins", "Onion"]),
        ("An onion-skin", ["Onion skins"]),
        ("leek", ["Onion"]),
    ]
    assert value("foundry_exact", items, language="en") == pytest.approx(1 / 3)


def test_the_published_f1_by_hand() -> None:
    """psc: right letters C, C, B, B (C = other articles); answers C, unread, B, C.

    As published C is positive and what is no letter counts as B: one hit, one miss, one false: F1 = 2/(2+1+1) = 0.5.
    Ours, B ("same article") positive: hit on the third, miss on the fourth, no false one: F1 = 2/(2+1).
    """
    items = [("C", ["C"]), ("[invalid]", ["C"]), ("B", ["B"]), ("C", ["B"])]
    assert value("f1_as_published", items) == pytest.approx(0.5)
    assert value("f1", items, positive="B") == pytest.approx(2 / 3)


def test_the_published_macro_f1_counts_the_unread_as_harmless() -> None:
    # Right A, A, B; answers A, unread, A. As published A, A, A: A has 2 hits, 1 false = 0.8, B none = 0; mean 0.4.
    items = [("A", ["A"]), ("[invalid]", ["A"]), ("A", ["B"])]
    assert value("f1_macro_as_published", items) == pytest.approx(0.4)
    # Ours has the label [invalid] too: A 1 hit, 1 miss, 1 false = 0.5; the two others 0.
    assert value("f1_macro", items) == pytest.approx(0.5 / 3)


def test_the_published_levenshtein_deletes_the_last_character() -> None:
    # "1939" loses its 9 and no longer equals; "alfa" becomes "alf", one edit of four letters, which is accepted.
    assert value("levenshtein_as_published", [("1939", ["1939"]), ("alfa", ["alfa"])]) == 0.5
    assert value("levenshtein", [("1939.", ["1939"]), ("alfa", ["alfa"])]) == 1.0


def test_truthfulqas_bleu_from_the_record() -> None:
    facts = json.dumps({"correct_answers": ["Nothing happens to you at all"], "incorrect_answers": ["You will die"]})
    rows = [{"extracted": "Nothing happens to you at all", "facts": facts}]
    assert ANSWER_METRICS["bleu_acc"].of_item(rows, {}) == 1.0
    assert ANSWER_METRICS["bleu_max"].of_item(rows, {}) == pytest.approx(100.0)


def test_mathematical_answers_are_compared_as_mathematics() -> None:
    pytest.importorskip("math_verify", reason="needs math-verify: pip install 'vernacular[math]'")
    answers = [("The final answer is $\\frac{1}{2}$.", ["0.5"]), ("It is $\\boxed{x+1}$", ["1+x"]), ("$3$", ["4"])]
    assert value("math_equal", answers) == pytest.approx(2 / 3)


def test_mass_on_the_true_answers_by_hand() -> None:
    # e^-1 and e^-2 true, e^-1 false: (e^-1 + e^-2) / (2e^-1 + e^-2) = (1 + e^-1) / (2 + e^-1).
    rows = [
        {"log_probability": score, "is_target": true} for score, true in ((-1.0, True), (-2.0, True), (-1.0, False))
    ]
    assert OWN["multiple_choice"]["mc2"].of_item(rows, {}) == pytest.approx(1.3678794 / 2.3678794)
