"""An evaluate stage runs a card's suite; what it leaves out stands in its summary."""

from __future__ import annotations

import json

import pytest
from tests.tiny import make_tokenizer, make_weights

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json
from vernacular.lifecycle.stage import Workplace
from vernacular.lifecycle.stages.evaluate import Evaluate


def test_a_stage_runs_a_suite(tmp_path) -> None:
    weights = make_weights(tmp_path / "weights", make_tokenizer(tmp_path / "tokenizer"), max_positions=512)
    sets = tmp_path / "sets"
    (sets / "copa_mosaic").mkdir(parents=True)
    item = {"query": "It rained, so", "choices": ["she got wet", "she stayed dry"], "gold": 0}
    (sets / "copa_mosaic/copa.jsonl").write_text(json.dumps(item) + "\n", encoding="utf-8")
    inputs = {"weights": weights, "data": sets}
    workplace = Workplace("scores", tmp_path / "out", inputs, ())
    common = {"do": "evaluate", "weights": "weights", "suite": "krutrim-1", "data": "sets", "template": "never"}
    with pytest.raises(UserError, match="the suite 'krutrim-1' is not complete"):
        Evaluate(**common).execute(workplace)
    with pytest.raises(UserError, match="names a suite and tasks"):
        Evaluate(**common, tasks="tasks").check()
    summary = Evaluate(**common, only_available=True).execute(workplace)
    assert {score["task"] for score in summary["scores"]} == {"foundry_copa"}
    assert all(headline["value"] is None for headline in summary["headlines"])
    assert "piqa" in read_json(tmp_path / "out" / "headlines.json")["incomplete"]
