"""The loop: accumulation, packing, exact resume, refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from killed_training import Killed, killed_at_update
from tiny_training import SHAPE, settings
from vernacular.foundation.errors import UserError
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import load_decoder
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shards import ShardReader
from vernacular.training.batch import to_tensors
from vernacular.training.checkpoint_storage import LocalStorage
from vernacular.training.configuration import PretrainConfiguration
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.next_token import next_token_loss, read
from vernacular.training.objectives.pretrain import pretrain

CPU = torch.device("cpu")


def train(folder: Path, tokens: Path, tokenizer: Path, configuration: PretrainConfiguration) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    return pretrain(configuration, tokens=tokens, tokenizer=tokenizer, weights=None, folder=folder, name="base")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def assert_same_bits(first: Path, second: Path) -> None:
    one, two = tensors(first), tensors(second)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_training_learns_and_leaves_a_weights_folder(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    summary = train(tmp_path, tokens, tokenizer, settings(steps=40))
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert lines[0]["perplexity"] == pytest.approx(math.exp(lines[0]["loss"]))
    assert summary["final_loss"] == lines[-1]["loss"]
    assert summary["tokens"] == 40 * 96
    assert summary["heldout_loss"] > 0
    assert "MFU = tokens/s ×" in summary["mfu_formula"]
    assert list((tmp_path / "logs" / "tensorboard").iterdir())
    load_decoder(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    assert (tmp_path / "chat_template.jinja").is_file()


def test_a_batch_in_pieces_is_the_same_batch(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    train(tmp_path / "whole", tokens, tokenizer, settings())
    train(tmp_path / "pieces", tokens, tokenizer, settings(micro_batch_tokens=24))
    whole, pieces = tensors(tmp_path / "whole"), tensors(tmp_path / "pieces")
    for name in whole:
        torch.testing.assert_close(whole[name], pieces[name], rtol=0, atol=2e-5)
    for one, two in zip(read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "pieces"), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=2e-5)


def test_packed_rows_have_the_loss_and_gradients_of_their_documents_apart(tokens: Path) -> None:
    reader = ShardReader.open(tokens, "train")
    rows = PackedRows(reader, 200)
    batch = rows.batch([0])
    decoder = Decoder(configure(settings().model, reader.vocab_size, 256))  # type: ignore[arg-type]
    decoder.initialise(0)

    part = to_tensors(batch, CPU, document_mask=True)
    packed = next_token_loss(decoder, read(decoder, part), part, chunk_tokens=64)
    packed.total.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in decoder.named_parameters()}  # type: ignore[arg-type]
    decoder.zero_grad()

    total = 0.0
    for _, start, stop in rows.pieces(0):
        ids = torch.from_numpy(reader.slice(start, stop))[None]
        logits = decoder.logits(decoder(ids[:, :-1]))
        loss = torch.nn.functional.cross_entropy(logits[0], ids[0, 1:], reduction="sum")
        loss.backward()
        total += loss.item()
    assert len(rows.pieces(0)) > 2
    assert packed.total.item() == pytest.approx(total, rel=1e-5)
    for name, parameter in decoder.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=0, atol=2e-4)


@pytest.mark.parametrize("kill_at", [1, 3, 5])
def test_a_run_killed_and_resumed_ends_in_the_same_bits(
    kill_at: int, tmp_path: Path, tokens: Path, tokenizer: Path
) -> None:
    train(tmp_path / "undisturbed", tokens, tokenizer, settings(log_every=4))
    with killed_at_update(kill_at):
        train(tmp_path / "killed", tokens, tokenizer, settings(log_every=4))
    train(tmp_path / "killed", tokens, tokenizer, settings(log_every=4))
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "killed")
    curves = [[line["loss"] for line in read_metrics(tmp_path / name)] for name in ("undisturbed", "killed")]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 2, "a line of metrics over steps from before and after the kill"


def test_a_run_killed_after_its_last_step_only_writes_its_weights(
    tmp_path: Path, tokens: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*arguments: Any, **options: Any) -> None:
        raise Killed

    undisturbed = train(tmp_path / "undisturbed", tokens, tokenizer, settings())
    monkeypatch.setattr("vernacular.training.objectives.leaving.save_weights", die)
    with pytest.raises(Killed):
        train(tmp_path / "killed", tokens, tokenizer, settings())
    monkeypatch.undo()
    resumed = train(tmp_path / "killed", tokens, tokenizer, settings())
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "killed")
    assert resumed["final_loss"] == undisturbed["final_loss"]


def test_a_checkpoint_cut_off_in_writing_does_not_count(
    tmp_path: Path, tokens: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "undisturbed", tokens, tokenizer, settings())
    rename = Path.rename

    def die(self: Path, target: Path) -> Path:
        if target.name == "step-00000004":
            raise Killed
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", die)
    with pytest.raises(Killed):
        train(tmp_path / "killed", tokens, tokenizer, settings())
    monkeypatch.undo()
    assert LocalStorage(tmp_path / "killed" / "checkpoints").names("step") == ["step-00000002"]
    train(tmp_path / "killed", tokens, tokenizer, settings())
    assert_same_bits(tmp_path / "undisturbed", tmp_path / "killed")


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    train(tmp_path, tokens, tokenizer, settings(steps=2))
    position = tmp_path / "checkpoints" / "step-00000002" / "position.json"
    position.write_text(json.dumps(json.loads(position.read_text()) | {"data": "another"}))
    with pytest.raises(UserError, match="other token shards"):
        train(tmp_path, tokens, tokenizer, settings(steps=4))


def test_a_loss_that_is_none_names_step_and_documents(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    wild = {"learning_rate": 1e30, "clip": None}
    with pytest.raises(UserError) as caught:
        train(tmp_path, tokens, tokenizer, settings(optimiser=wild))
    message = str(caught.value)
    assert "step 2 is" in message
    names = {ShardReader.open(tokens, "train").document_name(number) for number in range(5)}
    assert any(name in message for name in names), message
    assert "learning_rate" in message


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path, tokens: Path) -> None:
    other = tiny.make_tokenizer(tmp_path / "other", vocab_size=400)
    with pytest.raises(UserError, match="written with the tokenizer"):
        train(tmp_path / "base", tokens, other, settings())


def test_weights_or_a_shape_but_not_both(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    with pytest.raises(UserError, match="either weights to begin with or the shape"):
        train(tmp_path, tokens, tokenizer, settings(model=None))


WARM = {"learning_rate": 1e-3, "warmup_steps": 99}
POWER = {"schedule": "power", "power": {"amplitude": 0.001}, "decay": {"fraction": 0.5}}


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"optimiser": WARM}, "optimiser.warmup_steps", "warmup_steps 99 exceeds the run's 4 steps"),
        (
            {"optimiser": WARM | {"warmup_steps": 3, "final_learning_rate": 1e-4}},
            "optimiser.warmup_steps",
            "leave the rate none of 4 to fall",
        ),
        ({"profile": {"first": 5, "last": 6}}, "profile.first", "profile.first 5 exceeds the run's 4 steps"),
        ({"batch_tokens": 40 * 24}, "epochs", "15 rows, read 1 times, fill no batch of 40 rows"),
        ({"router_z_loss": 0.1}, "router_z_loss", "the model has no experts"),
        ({"load_balance": "pass"}, "load_balance", "the model has no experts"),
        (
            {"optimiser": POWER | {"learning_rate": 1e-2, "final_learning_rate": 1e-3}},
            "optimiser.final_learning_rate",
            "its decay would rise",
        ),
    ],
)
def test_what_the_run_has_no_place_for_is_refused_before_its_first_step(
    changes: dict[str, Any], where: str, message: str, tmp_path: Path, tokens: Path, tokenizer: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        train(tmp_path, tokens, tokenizer, settings(**{"steps": None, "epochs": 1} | changes))
    assert caught.value.where == where
    assert not read_metrics(tmp_path)


def test_weights_without_experts_refuse_a_routers_loss(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    train(tmp_path / "first", tokens, tokenizer, settings(steps=2))
    (tmp_path / "second").mkdir()
    with pytest.raises(UserError, match="the model has no experts"):
        pretrain(
            settings(model=None, router_z_loss=0.1),
            tokens=tokens,
            tokenizer=tokenizer,
            weights=tmp_path / "first",
            folder=tmp_path / "second",
            name="further",
        )


def test_further_training_begins_with_the_given_weights(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    train(tmp_path / "first", tokens, tokenizer, settings(steps=30))
    (tmp_path / "second").mkdir()
    pretrain(
        settings(model=None, optimiser={"learning_rate": 1e-12}),
        tokens=tokens,
        tokenizer=tokenizer,
        weights=tmp_path / "first",
        folder=tmp_path / "second",
        name="more",
    )
    first, second = tensors(tmp_path / "first"), tensors(tmp_path / "second")
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-6)


def test_bfloat16_follows_float32(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    for precision in ("float32", "bfloat16"):
        train(tmp_path / precision, tokens, tokenizer, settings(steps=20, precision=precision))
    exact, rounded = (read_metrics(tmp_path / precision) for precision in ("float32", "bfloat16"))
    for one, two in zip(exact, rounded, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=0.05)
    assert tensors(tmp_path / "bfloat16")["model.norm.weight"].dtype == torch.float32


def test_rows_longer_than_given_weights_can_read_are_refused(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    train(tmp_path / "short", tokens, tokenizer, settings())
    longer = settings(model=None, sequence_length=48)
    with pytest.raises(UserError, match="exceeds the weights' limit of") as caught:
        pretrain(longer, tokens=tokens, tokenizer=tokenizer, weights=tmp_path / "short", folder=tmp_path, name="on")
    assert caught.value.where == "sequence_length"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 1.0}, "exactly one of steps and epochs"),
        ({"batch_tokens": 100}, "not a multiple of sequence_length"),
        ({"micro_batch_tokens": 36}, "micro_batch_tokens"),
        ({"keep_every": 7, "checkpoint_every": 5}, "keep_every 7 is not a multiple of checkpoint_every 5"),
        ({"optimiser": {"learning_rate": 1e-3, "final_learning_rate": 1e-2}}, "above learning_rate"),
        ({"steps": None, "epochs": math.inf}, "finite"),
        ({"model": SHAPE | {"num_key_value_heads": 3}}, "does not divide"),
    ],
)
def test_settings_that_contradict_or_would_be_ignored_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, UserError), match=message):
        configure(settings(**changes).model, 300, 64)  # type: ignore[arg-type]
