"""Headlines by hand, and the cards' own averages recomputed from their rows."""

from __future__ import annotations

import pytest

from vernacular.evaluation.benchmarks import find_benchmark
from vernacular.evaluation.suites.baseline import always_positive_f1, majority_accuracy, majority_macro_f1
from vernacular.evaluation.suites.headline import Scored, gauntlet, normalised_mean, plain_mean
from vernacular.evaluation.suites.suite import (
    choose_tasks,
    headlines,
    published_models,
    published_shares,
    read_suite,
    suite_shares,
    suites,
)
from vernacular.foundation.errors import UserError


def test_rules_by_hand() -> None:
    scores = [Scored(0.75, 100, 0.5, "a"), Scored(0.25, 100, 0.25, "a"), Scored(6.0, 1, 0.0, "b")]
    assert plain_mean(scores) == pytest.approx((75 + 25 + 6) / 3)
    assert gauntlet([*scores[:2], Scored(0.4, 1, 0.0, "b")]) == pytest.approx(((0.5 + 0.0) / 2 + 0.4) / 2)
    # (0.75-0.5)/0.5 = 0.5; (0.1-0.25)/0.75 = -0.2: below the baseline is negative.
    assert normalised_mean([Scored(0.75, 100, 0.5), Scored(0.1, 100, 0.25)]) == pytest.approx(100 * (0.5 - 0.2) / 2)


def test_baselines_of_the_commonest_answer() -> None:
    # p = 169/1000: always "tak" has F1 2p/(1+p) = 0.289, the leaderboard's baseline of dyk.
    assert always_positive_f1(["tak"] * 169 + ["nie"] * 831, "tak") == pytest.approx(0.289, abs=5e-4)
    # cbd: 866 of 1,000 are harmless, and there are six classes: (2*0.866/1.866) / 6.
    targets = ["A"] * 866 + ["B"] * 50 + ["C"] * 30 + ["D"] * 24 + ["E"] * 20 + ["F"] * 10
    assert majority_macro_f1(targets) == pytest.approx(0.1547, abs=5e-5)
    assert majority_accuracy(targets) == 0.866


@pytest.mark.parametrize(
    ("suite", "model", "headline", "value"),
    [
        ("krutrim-1", "Krutrim-1-7B", "average", 0.54501),
        ("krutrim-1", "Llama2Chat-7B", "average", 0.54475),
        ("granite-3.0", "Granite-3.0-1B-A400M-Instruct", "average", 31.346),
        ("open-pl-llm-leaderboard", "Bielik-7B-v0.1", "RAG Reranking", 62.13),
    ],
)
def test_published_averages_from_the_published_rows(suite: str, model: str, headline: str, value: float) -> None:
    rules = read_suite(suite)
    found = {one.name: one.value for one in headlines(rules, published_shares(rules, model))}
    assert found[headline] == pytest.approx(value, abs=1e-5 if value < 1 else 5e-4)


def test_the_gauntlet_is_another_number_than_the_cards_average() -> None:
    suite = read_suite("krutrim-1")
    found = {one.name: one.value for one in headlines(suite, published_shares(suite, "Krutrim-1-7B"))}
    assert found["gauntlet core average"] < 0.45 < found["average"]


def test_the_polish_leaderboard_has_22_tasks_and_three_open_baselines() -> None:
    suite = read_suite("open-pl-llm-leaderboard")
    assert len(suite.members) == 22
    shares = {member.benchmark: 0.6 for member in suite.members}
    average, reranking, reader = headlines(suite, shares)
    assert average.value is None
    assert set(average.missing) == {
        f"{name}_{kind} (its baseline)" for name in ("psc", "cbd", "klej_ner") for kind in ("g", "mc")
    }
    assert (reranking.value, reader.value) == (pytest.approx(60.0), pytest.approx(60.0))
    open_ones = {member.benchmark: 0.6 for member in suite.members if member.baseline is None}
    known = [(0.6 - member.baseline) / (1 - member.baseline) for member in suite.members if member.baseline is not None]
    assert headlines(suite, shares, open_ones)[0].value == pytest.approx(100 * sum(known) / 22)


@pytest.mark.parametrize("name", suites())
def test_every_suite_is_sound(name: str) -> None:
    suite = read_suite(name)
    assert len({member.benchmark for member in suite.members}) == len(suite.members)
    assert {benchmark for rule in suite.headlines for benchmark in rule.of} <= {m.benchmark for m in suite.members}
    assert published_models(suite)
    if not name.startswith("open-pl-llm-leaderboard"):
        assert all(find_benchmark(member.benchmark) for member in suite.members)
        own = published_shares(suite, published_models(suite)[0])
        assert own
        assert all(0 <= share <= 1 for benchmark, share in own.items() if benchmark != "mt_bench")


def test_scores_of_tasks_become_a_benchmarks_share() -> None:
    suite = read_suite("krutrim-1")
    scores = [
        {"task": "foundry_arc_easy", "metric": "foundry_acc", "value": 0.6, "n": 2},
        {"task": "foundry_arc_challenge", "metric": "foundry_acc", "value": 0.4, "n": 8},
        {"task": "foundry_arc_challenge", "metric": "acc_norm", "value": 0.9, "n": 8},
        {"task": "foundry_copa", "metric": "foundry_acc", "value": 0.7, "n": 2},
    ]
    assert suite_shares(suite, scores) == {"arc": pytest.approx(0.5), "copa": 0.7}
    missing = headlines(suite, {"arc": 0.5})[0]
    assert missing.value is None
    assert "piqa" in missing.missing


def test_tasks_of_a_suite_and_those_it_lacks() -> None:
    suite = read_suite("krutrim-2-english")
    names = [member.tasks[0].replace("*", "one") for member in suite.members]
    assert choose_tasks(suite, [*names, "other"]) == tuple(names)
    with pytest.raises(UserError, match=r"lacks tasks for: humaneval \(humaneval_sampled\)"):
        choose_tasks(suite, [name for name in names if name != "humaneval_sampled"])
    with pytest.raises(UserError, match="did you mean 'krutrim-1'"):
        read_suite("krutrim1")
