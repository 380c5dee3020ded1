"""Two evaluations compared: by hand where that is possible, and through the verb."""

from __future__ import annotations

import json
import re
from math import comb
from pathlib import Path
from typing import Any

import pytest

from vernacular.evaluation.comparison import compare, mcnemar, report
from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.foundation.errors import UserError
from vernacular.foundation.machine import package_versions


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(3, 3) == 1.0
    # Of ten items on which they differ one has won nine: 2 * (1 + 10) / 1024.
    assert mcnemar(9, 1) == mcnemar(1, 9) == pytest.approx(22 / 1024)
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(12, 4) == pytest.approx(2 * sum(comb(16, k) for k in range(5)) / 2**16)


@pytest.fixture
def two(tasks: Path, capitals, fake_model, tmp_path: Path) -> tuple[Path, Path]:
    """The first takes the first choice; the second is always right, in its template, with one example fewer items."""
    right = {question: answer for question, answer, _ in capitals}

    def score(prompt: str, text: str) -> float:
        return -0.1 if any(question in prompt and text == answer for question, answer in right.items()) else -5.0

    first, second = tmp_path / "first", tmp_path / "second"
    settings = EvaluateConfiguration(only=("capitals_choice",))
    evaluate(settings, fake_model(), tasks, None, first)
    changed = settings.model_copy(update={"limit": 5, "template": "always"})
    evaluate(changed, fake_model(score=score, template=True), tasks, None, second)
    return first, second


def test_paired_differences_items_and_causes(two: tuple[Path, Path], capitals) -> None:
    found = compare(*two)
    acc = next(one for one in found.differences if one.metric == "acc")
    firsts = sum(answer == choices[0] for _, answer, choices in capitals[:5])
    assert (acc.n, acc.first, acc.second) == (5, firsts / 5, 1.0)
    assert acc.difference == pytest.approx(1 - firsts / 5)
    assert (acc.only_first, acc.only_second) == (0, 5 - firsts)
    assert acc.mcnemar == pytest.approx(min(1, 2 / 2 ** (5 - firsts)))
    assert acc.low is not None
    assert acc.low <= acc.difference <= acc.high <= 1
    assert found.unmatched == {"capitals_choice": 1}
    assert [item.target for item in found.items] == [
        answer for _, answer, choices in capitals[:5] if answer != choices[0]
    ]
    assert all(item.right == "second" and item.second == item.target for item in found.items)
    causes = {cause.what: (cause.first, cause.second) for cause in found.causes}
    assert causes == {"template": ("not applied", "applied"), "limit (items of each task)": ("none", "5")}
    assert (found.requests, found.changed) == (20, 20)


def test_a_run_compared_with_itself_has_no_causes(two: tuple[Path, Path]) -> None:
    found = compare(two[0], two[0])
    assert found.causes == ()
    assert found.items == ()
    assert all(one.difference == one.low == one.high == 0 for one in found.differences)
    assert "Nothing but their time differed; 24 of 24 answers are the same." in report(found, most_items=5)


def varied(model: type, kernels: str = "native", **identity: str) -> Any:
    """A model of other log-probabilities, which says of itself what `identity` says."""

    class Varied(model):
        @property
        def identity(self) -> dict[str, str]:
            return {**super().identity, "kernels": kernels, **identity}

    return Varied(
        score=lambda prompt, text: -len(prompt) / 7 - len(text) - len(identity.keys() & {"dtype", "window"}),
        template=True,
    )


ONE_THING = {
    "template": ({"template": "always"}, {}, {}, "template: not applied → applied"),
    "shots": ({"num_fewshot": 2}, {}, {}, "shots: 0 → 2 (capitals_choice)"),
    "precision": ({}, {"dtype": "bfloat16"}, {}, "precision: float32 → bfloat16"),
    "version": ({}, {}, {"torch": "9.9"}, "version of torch: "),
    "tokenizer's template": ({}, {"template": "d" * 64}, {}, None),
    "limit": ({"limit": 3}, {}, {}, "limit (items of each task): none → 3"),
    "window": ({}, {"window": "64"}, {}, "window: none → 64"),
}


@pytest.mark.parametrize("name", ONE_THING)
def test_the_one_thing_in_which_two_runs_of_a_model_differ_is_named(
    name: str, tasks: Path, fake_model, tmp_path: Path, monkeypatch
) -> None:
    changes, identity, versions, expected = ONE_THING[name]
    folder = tasks / "capitals_choice.yaml"
    folder.write_text(folder.read_text() + "fewshot_split: test\n")
    settings = EvaluateConfiguration(only=("capitals_choice",), template="never")
    evaluate(settings, varied(fake_model), tasks, None, tmp_path / "one")
    monkeypatch.setattr("vernacular.evaluation.evaluation.package_versions", lambda: {**package_versions(), **versions})
    changed = settings.model_copy(update=changes)
    evaluate(changed, varied(fake_model, **identity), tasks, None, tmp_path / "other")
    found = compare(tmp_path / "one", tmp_path / "other")
    printed = report(found, most_items=0)
    if expected is None:  # It was not applied, so it cannot have changed anything.
        assert found.causes == ()
        return
    assert len(found.causes) == 1
    assert "One model, two runs" in printed
    # Neither another version nor fewer items changed what this model answers.
    title = (
        "What was not the same changed none of them"
        if name in ("version", "limit")
        else "The cause of every difference"
    )
    assert f"{title}:\n- {expected}" in printed


@pytest.mark.parametrize(("kernels", "expected"), [("torch", "batch"), ("native", "unknown")])
def test_answers_that_differ_without_a_cause_are_put_down_to_the_batch_or_to_us(
    kernels: str, expected: str, tasks: Path, fake_model, tmp_path: Path
) -> None:
    settings = EvaluateConfiguration(only=("capitals_choice",), template="never")
    for name in ("one", "other"):
        model = varied(fake_model, kernels)
        model.score = lambda prompt, text, name=name: -float(len(text)) - (1e-6 if name == "other" else 0)
        evaluate(settings, model, tasks, None, tmp_path / name)
    (cause,) = compare(tmp_path / "one", tmp_path / "other").causes
    assert cause.what == expected
    assert ("depend on what shares a batch" in cause.first) == (expected == "batch")
    assert "24 answers" in cause.second


def test_two_models_and_what_else_was_not_the_same(tasks: Path, fake_model, tmp_path: Path) -> None:
    settings = EvaluateConfiguration(template="never")
    evaluate(settings, varied(fake_model), tasks, None, tmp_path / "one")
    other = settings.model_copy(update={"only": ("capitals_choice",)})
    evaluate(other, varied(fake_model, weights="x" * 64), tasks, None, tmp_path / "other")
    printed = report(compare(tmp_path / "one", tmp_path / "other"), most_items=0)
    assert "Two models; 24 of 24 answers are the same. All else was the same." in printed
    assert "Only in the first: capitals_answer" in printed
    assert "0 of 4 intervals leave out 0; by chance about 0.2 would" in printed


def test_nothing_in_common_is_refused(two: tuple[Path, Path], tasks: Path, fake_model, tmp_path: Path) -> None:
    evaluate(EvaluateConfiguration(only=("capitals_answer",)), fake_model(), tasks, None, tmp_path / "third")
    with pytest.raises(UserError, match="no task in common"):
        compare(two[0], tmp_path / "third")


def test_the_verb_prints_what_differs(two: tuple[Path, Path], run_cli) -> None:
    printed = run_cli("compare", *two, "--items", "1").stdout
    assert re.search(r"\| capitals_choice \| acc +\| +5 \|", printed)
    assert "- template: not applied → applied" in printed
    assert "more items are right in one only" in printed
    assert json.loads(run_cli("compare", *two, "--json").stdout)["unmatched"] == {"capitals_choice": 1}
