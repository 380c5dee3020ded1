"""A recipe that mixes the tokens of several stages, through the real command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tiny_recipe import write_texts
from tiny_training import SHAPE
from vernacular.foundation.artifact import read_artifact


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    texts = write_texts(tmp_path / "texts")
    stages: dict[str, Any] = {
        language: {
            "do": "curate",
            "sources": [{"name": language, "path": str(texts / f"{language}.jsonl"), "language": language}],
            "languages": [language],
        }
        for language in ("hi", "pl")
    }
    stages["tokenizer"] = {"do": "train-tokenizer", "documents": "hi", "vocab_size": 320}
    for language in ("hi", "pl"):
        stages[f"{language}-tokens"] = {"do": "tokenize", "documents": language, "tokenizer": "tokenizer"}
    stages["base"] = {
        "do": "pretrain",
        "tokens": ["hi-tokens", "pl-tokens"],
        "mixture": {"by": "tokens", "shares": {"hi-tokens": 80, "pl-tokens": 20}},
        "model": SHAPE,
        "steps": 5,
        "sequence_length": 32,
        "batch_tokens": 320,
        "optimiser": {"learning_rate": 0.01, "warmup_steps": 1},
    }
    path = tmp_path / "mixed.yaml"
    path.write_text(yaml.safe_dump({"name": "mixed", "stages": stages}, sort_keys=False), encoding="utf-8")
    return path


def test_token_stages_are_mixed_and_the_plan_says_how(recipe: Path, tmp_path: Path, run_cli: Any) -> None:
    out = tmp_path / "runs"
    assert "its mixture can be planned when its tokens are there" in run_cli("plan", recipe, "--out", out).stdout
    run_cli("run", recipe, "--out", out)
    record = read_artifact(out / "mixed" / "base")
    assert set(record.inputs) == {"tokens.0", "tokens.1"}
    assert "tokens" not in record.configuration
    cells = record.summary["mixture"]["cells"]
    assert {cell: read["tokens"] for cell, read in cells.items()} == {"hi-tokens": 1280, "pl-tokens": 320}
    assert {"heldout_loss/hi", "heldout_loss/pl", "heldout_bits_per_byte/hi"} <= set(record.summary)
    plan = run_cli("plan", recipe, "--out", out).stdout
    assert "base: mixture by tokens: hi-tokens 80.00% (" in plan
    account = plan[plan.index("cell ") :].splitlines()
    header, hindi, polish = (line.split() for line in account[:3])
    assert header[:4] == ["cell", "documents", "MB", "tokens"]
    assert (hindi[0], hindi[5], hindi[6], hindi[7]) == ("hi-tokens", "80.00%", "80.00%", "1,280")
    assert (polish[0], polish[5], polish[6], polish[7]) == ("pl-tokens", "20.00%", "20.00%", "320")
    assert "up to date" in plan

    wrong = "stages.base.mixture.shares={hi-tokens: 1, pl-token: 1}"
    refused = run_cli("plan", recipe, wrong, "--out", out, code=2).stderr
    assert "unknown tokens 'pl-token'" in refused
    assert "did you mean 'pl-tokens'" in refused
    assert f"where: override {wrong} (stages.base.mixture.shares.pl-token)" in refused
    capped = "stages.base.mixture={by: language, max_epochs: 0.01}"
    too_little = run_cli("plan", recipe, capped, "--out", out, code=2).stderr
    assert "raise max_epochs" in too_little
    assert "stages.base.mixture.max_epochs" in too_little
    missing = run_cli("plan", recipe, "stages.base.tokens=[hi-tokens, pl-tokenz]", "--out", out, code=2).stderr
    assert "did you mean 'pl-tokens'" in missing
    assert "tokens.1" in missing
