"""Two evaluations compared: by hand where that is possible, and through the verb."""

from __future__ import annotations

import json
from math import comb
from pathlib import Path

import pytest

from vernacular.evaluation.comparison import compare, mcnemar, report
from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.foundation.errors import UserError


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
    causes = {what: (ours, theirs) for what, ours, theirs in found.causes}
    assert causes["template applied"] == ("False", "True")
    assert causes["template"] == ("none", "cccccccccccc…")
    assert causes["setting limit"] == ("none", "5")
    assert "capitals_choice: prompts" in causes
    assert not {"weights", "tokenizer", "dtype"} & causes.keys()


def test_a_run_compared_with_itself_has_no_causes(two: tuple[Path, Path]) -> None:
    found = compare(two[0], two[0])
    assert found.causes == ()
    assert found.items == ()
    assert all(one.difference == one.low == one.high == 0 for one in found.differences)
    assert "Nothing but the time" in report(found, most_items=5)


def test_nothing_in_common_is_refused(two: tuple[Path, Path], tasks: Path, fake_model, tmp_path: Path) -> None:
    evaluate(EvaluateConfiguration(only=("capitals_answer",)), fake_model(), tasks, None, tmp_path / "third")
    with pytest.raises(UserError, match="no task in common"):
        compare(two[0], tmp_path / "third")


def test_the_verb_prints_what_differs(two: tuple[Path, Path], run_cli) -> None:
    printed = run_cli("compare", *two, "--items", "1").stdout
    assert "| capitals_choice | acc | 5 |" in printed
    assert "template applied: False → True" in printed
    assert "more items differ" in printed
    assert json.loads(run_cli("compare", *two, "--json").stdout)["unmatched"] == {"capitals_choice": 1}
