"""The demo, run whole by the real command line: what the README promises of it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, repository: Path, run_cli: Any) -> Path:
    """The demo's artifacts."""
    out = tmp_path_factory.mktemp("demo")
    run_cli("run", repository / "recipes" / "demo.yaml", "--out", out, cwd=repository, timeout=1700)
    return out / "demo"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_curation_finds_the_noise_and_keeps_the_rest(demo: Path) -> None:
    labels = read(demo / "corpus" / "report.json")["labels"]
    assert labels["noise_removed"] >= 0.95
    assert labels["clean_kept"] >= 0.98


def test_every_task_is_learnt(demo: Path) -> None:
    scores = [score for score in read(demo / "scores" / "scores.json")["scores"] if score["task"] != "heldout"]
    headline = [score for score in scores if score["metric"] in ("acc", "exact_match")]
    assert len(headline) == 12
    for score in headline:
        assert score["n"] >= 200, score["task"]
        assert score["value"] >= 2 * score["chance"], score
        assert score["low"] > score["chance"], score


def test_the_card_is_true_to_its_records(demo: Path, run_cli: Any) -> None:
    run_cli("verify", demo / "card")
    card = demo / "card" / "README.md"
    text = card.read_text(encoding="utf-8")
    assert text.startswith("---\n")
    for language in ("hi", "pl", "en"):
        assert f"numbers_{language}" in text


def test_transformers_gives_the_same_logits_and_the_same_text(demo: Path, run_cli: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import vernacular

    folder = demo / "instruct"
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lm = vernacular.load(str(folder))
    for prompt in ("भारत की मुद्रा", "Waluta kraju lub terytorium Polska to", "The number 482 is written as"):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            expected = reference(ids).logits[0]
            greedy = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        assert (lm.logits(ids[0].tolist()) - expected).abs().max() <= 1e-4
        text = tokenizer.decode(greedy[0, ids.shape[1] :], skip_special_tokens=True)
        ours = run_cli("generate", folder, prompt, "--max-new-tokens", "24").stdout
        assert ours.rstrip("\n") == text.rstrip("\n")


def test_the_model_answers_the_demo_questions(demo: Path, run_cli: Any) -> None:
    questions = demo / "corpus" / "tasks" / "questions.jsonl"
    answers = run_cli("chat", demo / "instruct", "--questions", questions).stdout
    assert answers.count("model:") == 3
    for language in ("hi", "pl", "en"):
        assert f"[{language}]" in answers


def test_run_again_it_does_nothing(demo: Path, repository: Path, run_cli: Any) -> None:
    again = run_cli("run", repository / "recipes" / "demo.yaml", "--out", demo.parent, cwd=repository)
    assert "0 of 7 stages done" in again.stdout
