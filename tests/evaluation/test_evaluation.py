"""Weights get scores: through the public entry point, on real task files, with models whose scores are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.scores import as_json, read_scores, rescore
from vernacular.foundation.errors import InternalError, UserError


def scores_of(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(score["task"], score["metric"]): score for score in read_scores(folder)["scores"]}


def perfect(capitals: list[tuple[str, str, list[str]]]) -> dict[str, Any]:
    right = {question: answer for question, answer, _ in capitals}

    def find(prompt: str) -> str:
        return next(answer for question, answer in right.items() if question in prompt)

    return {"score": lambda prompt, text: -0.1 if text == find(prompt) else -5.0, "answer": find}


def test_a_perfect_model_gets_everything_right(tasks, capitals, fake_model, tmp_path) -> None:
    summary = evaluate(EvaluateConfiguration(), fake_model(**perfect(capitals)), tasks, None, tmp_path / "out")
    scores = scores_of(tmp_path / "out")
    assert scores["capitals_choice", "acc"]["value"] == 1.0
    assert scores["capitals_choice", "acc_norm"]["value"] == 1.0
    assert scores["capitals_choice", "acc"]["chance"] == pytest.approx(0.25)
    assert scores["capitals_choice", "acc"]["low"] == pytest.approx(0.6096657, abs=1e-6)
    assert scores["capitals_choice", "acc"]["high"] == 1.0
    assert scores["capitals_choice", "acc"]["stderr"] == 0.0
    assert scores["capitals_answer", "exact_match"]["value"] == 1.0
    assert scores["capitals_answer", "exact_match"]["chance"] == 0.25
    assert scores["capitals_answer", "exact_match"]["parse_failures"] == 0
    assert scores["capitals_answer", "chrf"]["value"] == pytest.approx(100.0)
    assert summary["warnings"] == []
    assert {score["task"] for score in summary["scores"]} == {"capitals_choice", "capitals_answer"}


def test_a_constant_model_gets_the_share_of_first_choices(tasks, capitals, fake_model, tmp_path) -> None:
    evaluate(EvaluateConfiguration(), fake_model(), tasks, None, tmp_path / "out")
    first = sum(answer == choices[0] for _, answer, choices in capitals) / len(capitals)
    assert scores_of(tmp_path / "out")["capitals_choice", "acc"]["value"] == first


def test_length_norms_choose_by_characters_and_by_bytes(make_task, fake_model, tmp_path) -> None:
    # Raw: "ab" (-4). By characters: "abcdefgh" (-6/8). By bytes: "कखगघ" (-5/12) against "abcdefgh" (-6/8).
    items = [{"question": "?", "choices": ["ab", "abcdefgh", "कखगघ"], "label": 2}]
    score = {"ab": -4.0, "abcdefgh": -6.0, "कखगघ": -5.0}
    model = fake_model(score=lambda _, text: score[text])
    evaluate(EvaluateConfiguration(), model, make_task(items), None, tmp_path / "out")
    scores = scores_of(tmp_path / "out")
    values = {metric: scores["one", metric]["value"] for metric in ("acc", "acc_norm", "acc_bytes")}
    assert values == {"acc": 0.0, "acc_norm": 0.0, "acc_bytes": 1.0}
    assert scores["one", "acc"]["stderr"] is None  # One item tells nothing about its spread.


def test_records_hold_a_row_per_request(tasks, capitals, fake_model, tmp_path) -> None:
    evaluate(EvaluateConfiguration(), fake_model(**perfect(capitals)), tasks, None, tmp_path / "out")
    rows = pyarrow.parquet.read_table(tmp_path / "out/records/capitals_choice.parquet").to_pylist()
    assert len(rows) == sum(len(choices) for _, _, choices in capitals)
    second = [row for row in rows if row["item"] == 1]
    assert [row["continuation"] for row in second] == ["मुंबई", "नई दिल्ली", "कोलकाता", "चेन्नई"]
    assert [row["chosen"] for row in second] == [row["is_target"] for row in second] == [False, True, False, False]
    assert all(row["prompt"] == "भारत की राजधानी क्या है?\n" and row["correct"] for row in second)
    (answer,) = [
        row
        for row in pyarrow.parquet.read_table(tmp_path / "out/records/capitals_answer.parquet").to_pylist()
        if row["item"] == 0
    ]
    assert (answer["response"], answer["extracted"], answer["target"]) == ("Warszawa", "Warszawa", ["Warszawa"])
    assert json.loads(answer["settings"])["until"] == ["\n"]


def test_rescore_needs_nothing_but_the_records(tasks, capitals, curated, fake_model, tmp_path) -> None:
    model = fake_model(score=lambda prompt, text: -0.3 * len(text), answer=lambda prompt: "Praga")
    evaluate(EvaluateConfiguration(), model, tasks, curated, tmp_path / "out")
    alone = tmp_path / "alone"
    alone.mkdir()
    (tmp_path / "out/records").rename(alone / "records")
    assert as_json(rescore(alone)) == read_scores(tmp_path / "out")["scores"]


def test_rescoring_by_other_metrics_and_an_altered_score(tasks, fake_model, tmp_path, run_cli) -> None:
    evaluate(EvaluateConfiguration(only=("capitals_choice",)), fake_model(), tasks, None, tmp_path / "out")
    also = {score.metric: score.value for score in rescore(tmp_path / "out", {"f1_micro": {}})}
    assert also["f1_micro"] == also["acc"]
    with pytest.raises(UserError, match="unknown metric 'f1_mikro'"):
        rescore(tmp_path / "out", {"f1_mikro": {}})
    assert "f1_macro" in run_cli("rescore", tmp_path / "out", "--metric", "f1_macro").stdout
    scores = json.loads((tmp_path / "out/scores.json").read_text(encoding="utf-8"))
    scores["scores"][0]["value"] = 0.99
    (tmp_path / "out/scores.json").write_text(json.dumps(scores))
    assert "/scores/0/value: capitals_choice, acc, value is 0.99" in run_cli("rescore", tmp_path / "out", code=2).stdout


def test_the_harness_disagreeing_is_an_error(tasks, fake_model, tmp_path, monkeypatch) -> None:
    from vernacular.evaluation.metrics import registry

    wrong = registry.METRICS["multiple_choice"]["acc"]._replace(of_item=lambda rows, options: 1.0)
    monkeypatch.setitem(registry.METRICS["multiple_choice"], "acc", wrong)
    with pytest.raises(InternalError, match=r"acc is 1\.0 from the record"):
        evaluate(EvaluateConfiguration(), fake_model(), tasks, None, tmp_path / "out")


def test_unread_answers_are_counted_and_warned_of(tasks, fake_model, tmp_path, run_cli) -> None:
    summary = evaluate(EvaluateConfiguration(only=("*_answer",)), fake_model(), tasks, None, tmp_path / "out")
    assert scores_of(tmp_path / "out")["capitals_answer", "exact_match"]["parse_failures"] == 6
    assert "6 of 6 answers could not be read (100.0%)" in summary["warnings"][0]
    assert "6 of 6 answers could not be read (100.0%)" in run_cli("rescore", tmp_path / "out").stdout


def test_prompts_that_lost_their_beginning_are_counted_and_warned_of(tasks, fake_model, tmp_path, run_cli) -> None:
    class Short(fake_model):
        def loglikelihood(self, pairs, *, report=None):
            found = super().loglikelihood(pairs, report=report)
            return [one._replace(num_cut=int("Wales" in pair[0])) for one, pair in zip(found, pairs, strict=True)]

    summary = evaluate(EvaluateConfiguration(only=("*_choice",)), Short(), tasks, None, tmp_path / "out")
    (warning,) = summary["warnings"]
    assert "capitals_choice: 4 of 24 prompts lost their beginning" in warning
    assert warning in run_cli("rescore", tmp_path / "out").stdout


@pytest.mark.parametrize(
    ("setting", "has_template", "instruct", "applied"),
    [
        ("auto", True, True, True),
        ("auto", True, False, False),
        ("auto", False, None, False),
        ("never", True, True, False),
        ("always", True, None, True),
    ],
)
def test_the_template_is_applied_as_told(setting, has_template, instruct, applied, tasks, fake_model, tmp_path) -> None:
    model = fake_model(template=has_template)
    settings = EvaluateConfiguration(template=setting)
    summary = evaluate(settings, model, tasks, None, tmp_path / "out", instruct=instruct)
    assert summary["template"]["applied"] is applied
    assert summary["template"]["reason"]
    start = "<user>Jaka jest stolica Polski?\n</><assistant>" if applied else "Jaka jest stolica Polski?\n"
    assert start in model.prompts


@pytest.mark.parametrize(("setting", "has_template"), [("always", False), ("auto", True)])
def test_a_template_in_doubt_is_refused(setting, has_template, tasks, fake_model, tmp_path) -> None:
    with pytest.raises(UserError, match="chat template"):
        evaluate(
            EvaluateConfiguration(template=setting), fake_model(template=has_template), tasks, None, tmp_path / "out"
        )


def test_fewshot_examples_come_before_the_question(make_task, fake_model, tmp_path) -> None:
    items = [{"question": f"{n}?", "choices": ["A", "B"], "label": n % 2} for n in range(8)]
    folder = make_task(items, fewshot_split="test")
    model = fake_model(template=True)
    settings = EvaluateConfiguration(num_fewshot=2, limit=3, template="always")
    evaluate(settings, model, folder, None, tmp_path / "out")
    assert {prompt.count("<user>") for prompt in model.prompts} == {3}
    assert {prompt.count("<assistant>") for prompt in model.prompts} == {3}
    assert scores_of(tmp_path / "out")["one", "acc"]["num_fewshot"] == 2
    assert scores_of(tmp_path / "out")["one", "acc"]["n"] == 3
    # The question under test is never among its own examples.
    assert all(prompt.count("<user>0?") <= 1 for prompt in model.prompts)


def test_bits_per_byte_by_language_beside_xz(curated, fake_model, tmp_path) -> None:
    model = fake_model(score=lambda _, text: -math.log(2) * len(text.encode()))  # One bit per byte, on the dot.
    evaluate(EvaluateConfiguration(), model, None, curated, tmp_path / "out")
    by_language = {
        score["language"]: score
        for score in read_scores(tmp_path / "out")["scores"]
        if score["metric"] == "bits_per_byte"
    }
    assert set(by_language) == {"en", "hi", "pl"}
    for score in by_language.values():
        assert score["value"] == pytest.approx(1.0)
        assert score["low"] == pytest.approx(1.0)
        alone, after = score["yardsticks"]["xz -9"], score["yardsticks"]["xz -9 after training text"]
        assert after < alone  # The training text holds the same sentences.
    graphemes = {
        score["language"]: score["value"]
        for score in read_scores(tmp_path / "out")["scores"]
        if score["metric"] == "bits_per_grapheme"
    }
    assert graphemes["hi"] > 3.5  # Devanagari: three bytes a code point, and marks join their base.
    assert graphemes["en"] == pytest.approx(1.0)


def test_heldout_text_is_taken_up_to_the_limit(curated, fake_model, tmp_path) -> None:
    evaluate(EvaluateConfiguration(heldout_bytes=60), fake_model(), None, curated, tmp_path / "out")
    rows = pyarrow.parquet.read_table(tmp_path / "out/records/heldout.parquet").to_pylist()
    assert sum(row["bytes"] for row in rows if row["language"] == "en") <= 60
    assert {row["language"] for row in rows} == {"en", "hi", "pl"}  # One document at least of each.


def test_nothing_to_evaluate_is_refused(fake_model, tmp_path) -> None:
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluate(EvaluateConfiguration(), fake_model(), None, None, tmp_path / "out")


def test_no_heldout_documents_is_refused(fake_model, tmp_path) -> None:
    with pytest.raises(UserError, match="no held-out documents"):
        evaluate(EvaluateConfiguration(), fake_model(), None, tmp_path, tmp_path / "out")


def test_a_model_that_gives_no_number_is_named(tasks, fake_model, tmp_path) -> None:
    model = fake_model(score=lambda *_: math.nan)
    with pytest.raises(InternalError, match="log-probability nan"):
        evaluate(EvaluateConfiguration(only=("*_choice",)), model, tasks, None, tmp_path / "out")


def test_a_model_that_breaks_is_not_the_tasks_fault(tasks, fake_model, tmp_path) -> None:
    model = fake_model(score=lambda *_: {}["no such key"])
    with pytest.raises(InternalError, match="the model fails"):
        evaluate(EvaluateConfiguration(only=("*_choice",)), model, tasks, None, tmp_path / "out")


def test_sampled_answers_have_seeds_of_their_own(make_task, fake_model, tmp_path) -> None:
    items = [{"question": f"{n}?", "choices": ["A"], "label": 0} for n in range(3)]
    folder = make_task(
        items,
        output_type="generate_until",
        doc_to_choice=None,
        doc_to_target="A",
        metric_list=[{"metric": "exact_match"}],
        generation_kwargs={"do_sample": True, "temperature": 0.7, "top_p": 0.9, "until": ["\n"]},
    )
    model = fake_model(answer=lambda _: "A")
    evaluate(EvaluateConfiguration(seed=10), model, folder, None, tmp_path / "out")
    assert [(s.seed, s.temperature, s.top_p, s.max_new_tokens) for s in model.samplings] == [
        (seed, 0.7, 0.9, 256) for seed in (10, 11, 12)
    ]
