"""What a run says of itself beside its loss: probes, routers, update ratios, a trace; and what it divides losses by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_training import SHAPE, settings
from vernacular.models.decoder import Decoder
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shards import ShardReader
from vernacular.training.configuration import PretrainConfiguration, SftConfiguration, TrainingConfiguration
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.pretrain import pretrain
from vernacular.training.objectives.sft import sft

EXPERTS = SHAPE | {"family": "granitemoe", "num_experts": 4, "experts_per_token": 2}


def run(folder: Path, tokens: Path, configuration: PretrainConfiguration, **options: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokens.parent / "tokenizer"
    return pretrain(
        configuration, tokens=tokens, tokenizer=tokenizer, weights=None, folder=folder, name="base", **options
    )


class Longest:
    """A probe that notes how it was called."""

    name = "embedding"
    every = 3

    def __init__(self) -> None:
        self.calls: list[bool] = []

    def measure(self, decoder: Decoder, step: int) -> Mapping[str, float]:
        self.calls.append(decoder.training or torch.is_grad_enabled())
        return {"longest": decoder.embedding.weight.norm(dim=1).max().item()}


def test_probes_are_asked_at_their_intervals_and_change_nothing(tmp_path: Path, tokens: Path) -> None:
    probe = Longest()
    run(tmp_path / "probed", tokens, settings(steps=7, log_every=5), probes=[probe])
    run(tmp_path / "alone", tokens, settings(steps=7, log_every=5))
    found = {line["step"]: line.get("embedding/longest") for line in read_metrics(tmp_path / "probed")}
    assert list(found) == [3, 5, 6, 7]
    assert [step for step, value in found.items() if value is not None] == [3, 6, 7]
    assert probe.calls == [False, False, False], "called in evaluation mode, without gradients"
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("probed", "alone")]
    assert weights[0] == weights[1]


def test_the_update_ratio_is_the_length_of_the_step_over_the_weights(tmp_path: Path, tokens: Path) -> None:
    run(tmp_path, tokens, settings(steps=1, optimiser={"learning_rate": 1e-3, "weight_decay": 0.0}))
    (line,) = read_metrics(tmp_path)
    # The first step of AdamW moves every weight that has a gradient by the rate; the matrices are drawn with 0.02.
    assert line["update_ratio/feed-forward"] == pytest.approx(1e-3 / 0.02, rel=0.3)
    assert line["update_ratio/norm"] == pytest.approx(1e-3, rel=0.01)
    assert {"update_ratio/embedding", "update_ratio/head", "update_ratio/attention"} <= line.keys()


def test_routers_are_watched_layer_by_layer(tmp_path: Path, tokens: Path) -> None:
    run(tmp_path, tokens, settings(model=EXPERTS, steps=4, log_every=2))
    for line in read_metrics(tmp_path):
        for layer in (0, 1):
            assert 0.25 <= line[f"router_max_share/{layer}"] <= 0.5, "4 experts, 2 for each token"
            assert 0.5 <= line[f"router_entropy/{layer}"] <= 1
        assert line["load_balance"] == pytest.approx(2, rel=0.2)
        assert line["router_logsumexp_squared"] > 0


def test_a_heavy_balance_loss_balances(tmp_path: Path, tokens: Path) -> None:
    shares = {}
    for coefficient in (0.0, 3.0):
        folder = tmp_path / str(coefficient)
        run(folder, tokens, settings(model=EXPERTS | {"router_aux_loss_coef": coefficient}, steps=25, log_every=25))
        shares[coefficient] = read_metrics(folder)[-1]["router_max_share/0"]
    assert shares[3.0] < shares[0.0]


def test_the_z_loss_keeps_the_normaliser_small(tmp_path: Path, tokens: Path) -> None:
    squares = {}
    for weight in (0.0, 0.1):
        run(tmp_path / str(weight), tokens, settings(steps=20, z_loss=weight))
        squares[weight] = read_metrics(tmp_path / str(weight))[-1]["logsumexp_squared"]
    assert squares[0.1] < 0.85 * squares[0.0]


def test_a_trace_of_the_named_steps_is_written(tmp_path: Path, tokens: Path) -> None:
    run(tmp_path, tokens, settings(steps=4, profile={"first": 2, "last": 3}))
    trace = json.loads((tmp_path / "logs" / "profile-2-3.json").read_text())
    names = {event.get("name", "") for event in trace["traceEvents"]}
    assert any("attention" in name.lower() for name in names)
    run(tmp_path / "short", tokens, settings(steps=2, profile={"first": 2, "last": 9}))
    assert (tmp_path / "short" / "logs" / "profile-2-2.json").is_file(), "a run that ends before keeps what it has"


def conversations(path: Path, *weights: float | str) -> Path:
    """Two conversations in Tamil and Polish, with a weight each."""
    said = [("நேரம் என்ன?", "மாலை ஆறு மணி."), ("Która godzina?", "Dochodzi szósta.")]
    with open(path, "w", encoding="utf-8") as file:
        for (question, answer), weight in zip(said, weights, strict=True):
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages, "weight": weight}, ensure_ascii=False) + "\n")
    return path


def tune(
    base: Path,
    folder: Path,
    said: Path,
    normalisation: str = "openchat",
    *,
    steps: int = 1,
    heldout_every: int | None = None,
    heldout_fraction: float = 0.0,
    **optimiser: Any,
) -> list[dict[str, Any]]:
    folder.mkdir()
    shared = TrainingConfiguration.model_fields.keys() - {"optimiser"}
    values = {
        **settings().model_dump(include=shared),
        "steps": steps,
        "heldout_every": heldout_every,
        "sequence_length": 64,
        "batch_tokens": 128,
        "normalisation": normalisation,
        "conversation_settings": {"heldout_fraction": heldout_fraction},
        "optimiser": {"learning_rate": 0.01, "clip": None, **optimiser},
    }
    sft(SftConfiguration.model_validate(values), weights=base, conversations=said, folder=folder, name="tuned")
    return read_metrics(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokens: Path) -> Path:
    folder = tmp_path_factory.mktemp("base") / "base"
    run(folder, tokens, settings(steps=4, sequence_length=64, batch_tokens=128))
    return folder


@pytest.mark.parametrize("share", [0.2, 0.0])
def test_tuning_is_held_against_what_it_began_with(
    share: float, base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As every run that begins with weights: measured before the first step, where it is measured at intervals."""
    said = tmp_path / "said.jsonl"
    with open(said, "w", encoding="utf-8") as file:
        for hour in range(40):
            messages = [{"role": "user", "content": f"{hour}?"}, {"role": "assistant", "content": "Dochodzi szósta."}]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    lines = tune(base, tmp_path / "tuned", said, steps=2, heldout_every=2, heldout_fraction=share)
    measured = {line["step"]: line["heldout_loss"] for line in lines if "heldout_loss" in line}
    assert list(measured) == ([0, 2] if share else [])
    assert ("nothing is held out" in capfd.readouterr().err) is not bool(share)
    if share:
        assert measured[2] < measured[0]
    else:
        assert [line["step"] for line in lines] == [1, 2]


def test_both_normalisations_are_one_where_all_weights_are_1(base: Path, tmp_path: Path) -> None:
    said = conversations(tmp_path / "chats.jsonl", 1.0, "high")
    lines = [tune(base, tmp_path / way, said, way)[0] for way in ("openchat", "allamo")]
    assert lines[0]["gradient_norm"] == lines[1]["gradient_norm"]


def test_bieliks_weights_and_normalisations_are_their_formulas(base: Path, tmp_path: Path) -> None:
    """With one weight for all, `openchat` sees none of it and `allamo` a gradient of just that size."""
    plain = tune(base, tmp_path / "plain", conversations(tmp_path / "plain.jsonl", 1.0, 1.0), "openchat")[0]
    said = conversations(tmp_path / "low.jsonl", "low", 0.5)
    openchat = tune(base, tmp_path / "openchat", said, "openchat")[0]
    allamo = tune(base, tmp_path / "allamo", said, "allamo")[0]
    assert openchat["gradient_norm"] == pytest.approx(plain["gradient_norm"], rel=1e-5)
    assert allamo["gradient_norm"] == pytest.approx(0.5 * plain["gradient_norm"], rel=1e-5)
    assert allamo["loss"] == pytest.approx(plain["loss"], rel=1e-5), "the loss reported is nats a weighted token"


def test_weights_of_conversations_differ_token_by_token(base: Path, tmp_path: Path) -> None:
    tune(base, tmp_path / "tuned", conversations(tmp_path / "chats.jsonl", "medium", "low"), "allamo")
    reader = ShardReader.open(tmp_path / "tuned" / "tokens", "train")
    batch = PackedRows(reader, 64, "conversations").batch([0])
    assert {round(float(weight), 4) for weight in batch.weights_BT.flatten()} == {0.0, 0.5, 0.7}


def test_bieliks_rate_is_in_the_metrics(base: Path, tmp_path: Path) -> None:
    said = conversations(tmp_path / "chats.jsonl", 1.0, 1.0)
    line = tune(base, tmp_path / "tuned", said, "allamo", adaptive=True)[0]
    reader = ShardReader.open(tmp_path / "tuned" / "tokens", "train")
    rows = PackedRows(reader, 64, "conversations")
    learned = 2 // len(rows) * sum(int((rows.batch([row]).weights_BT > 0).sum()) for row in range(len(rows)))
    assert line["learning_rate"] == pytest.approx(0.01 * (learned / 128) ** 0.5)
