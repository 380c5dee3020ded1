"""Continued pre-training: replay keeps a language, the stop rule ends a run that loses it, and kills change nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load_file

import tiny_recipe
import tiny_training
from killed_training import Killed, killed_at_update
from vernacular.foundation.errors import UserError
from vernacular.tokens.configuration import TokenizeConfiguration, TokenizerConfiguration
from vernacular.tokens.tokenization import tokenize_documents
from vernacular.tokens.training import train_tokenizer
from vernacular.training import trainer
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.pretrain import pretrain

STEPS = 24
ONLY_NEW = {"by": "language", "shares": {"hi": 1}}
REPLAY = {"by": "language", "shares": {"hi": 60, "en": 40}}
RULE = {"probe": "en", "rise": 0.065, "patience": 2}
# The bits per byte of English rise so slowly that several measurements lie within the bound.
SLOW = {"heldout_every": 2, "optimiser": {"learning_rate": 3e-4, "warmup_steps": 4, "schedule": "constant"}}


def write_corpus(folder: Path, languages: dict[str, int]) -> Path:
    """Documents of six sentences: so many of each language, and a sixth of that held out."""
    random_ = random.Random(5)
    for split, share in (("train", 1), ("heldout", 6)):
        rows = [
            (language, " ".join(tiny_recipe.sentence(language, random_) for _ in range(6)))
            for language, count in languages.items()
            for _ in range(count // share)
        ]
        path = folder / "documents" / split / "00000.parquet"
        path.parent.mkdir(parents=True)
        columns = {
            "id": [f"{split == 'train':d}{number:031x}" for number in range(len(rows))],
            "text": [text for _, text in rows],
            "language": [language for language, _ in rows],
            "source": ["made"] * len(rows),
        }
        parquet.write_table(pa.table(columns), path)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of English alone, tokens of English and Hindi, and weights that know English."""
    folder = tmp_path_factory.mktemp("continued")
    both = write_corpus(folder / "both", {"en": 60, "hi": 60})
    english = write_corpus(folder / "english", {"en": 60})
    (folder / "tokenizer").mkdir()
    train_tokenizer(TokenizerConfiguration(vocab_size=400, reserved_tokens=2), both, folder / "tokenizer")
    for documents in (both, english):
        tokens = folder / f"{documents.name}-tokens"
        tokenize_documents(TokenizeConfiguration(), documents, folder / "tokenizer", tokens)
    run(folder, "base", tokens="english-tokens", weights=None, steps=60, model=tiny_training.SHAPE, heldout_every=None)
    return folder


def run(place: Path, name: str, *, tokens: str = "both-tokens", weights: str | None = "base", **changes: Any) -> Any:
    values = {
        "model": None,
        "steps": STEPS,
        "heldout_every": 4,
        "batch_tokens": 192,
        "sequence_length": 48,
        "checkpoint_every": 5,
        "optimiser": {"learning_rate": 4e-3, "warmup_steps": 4, "warmup_from": 1e-4, "schedule": "constant"},
        **changes,
    }
    (place / name).mkdir(exist_ok=True)
    return pretrain(
        tiny_training.settings(**values),
        tokens=place / tokens,
        tokenizer=place / "tokenizer",
        weights=None if weights is None else place / weights,
        folder=place / name,
        name=name,
    )


def bits(folder: Path, language: str) -> dict[int, float]:
    key = f"heldout_bits_per_byte/{language}"
    return {line["step"]: line[key] for line in read_metrics(folder) if key in line}


def test_replay_forgets_less_at_equal_steps(place: Path) -> None:
    run(place, "alone", mixture=ONLY_NEW)
    run(place, "replayed", mixture=REPLAY)
    alone, replayed = bits(place / "alone", "en"), bits(place / "replayed", "en")
    assert list(alone) == list(range(0, STEPS + 1, 4)), "the first is measured before the first step"
    assert alone[0] == replayed[0]
    lost, kept = alone[STEPS] - alone[0], replayed[STEPS] - replayed[0]
    assert lost > 0.3
    assert kept < lost / 3
    for name in ("alone", "replayed"):
        learned = bits(place / name, "hi")
        assert learned[STEPS] < 0.7 * learned[0]


@pytest.fixture(scope="module")
def stopped(place: Path) -> tuple[Path, dict[str, Any]]:
    """An undisturbed run that stops, and its summary."""
    return place / "stopped", run(place, "stopped", mixture=ONLY_NEW, stop=RULE, **SLOW)


def test_the_run_stops_and_leaves_the_last_good_weights(place: Path, stopped: tuple[Path, dict[str, Any]]) -> None:
    summary = stopped[1]
    said = summary["forgetting"]
    measured = bits(place / "stopped", "en")
    above = [step for step, value in measured.items() if value > 1.065 * measured[0]]
    assert said["stopped_at_step"] == max(measured) == above[1] < STEPS
    good = max(step for step in measured if step < above[0])
    assert said["weights_of_step"] == summary["steps"] == good > 0
    assert said["bits_per_byte"] == pytest.approx(measured[good], abs=1e-6)
    assert said["most_bits_per_byte"] == pytest.approx(1.065 * measured[0], abs=1e-6)
    assert said["why"] == "en was more than 6.5% above its start in bits per byte, 2 measurements in a row"
    undisturbed = run(place, "short", mixture=ONLY_NEW, steps=good, **SLOW)
    assert undisturbed["steps"] == good
    same_weights(place / "stopped", place / "short")


def test_the_last_good_weights_stay_in_a_store_too(place: Path, stopped: tuple[Path, dict[str, Any]]) -> None:
    where = {"checkpoint_folder": f"memory://{place}", "checkpoint_every": 1}
    summary = run(place, "elsewhere", mixture=ONLY_NEW, stop=RULE, **SLOW, **where)
    assert summary["forgetting"] == stopped[1]["forgetting"]
    same_weights(place / "stopped", place / "elsewhere")


def test_a_run_that_forgets_little_goes_to_its_end(place: Path) -> None:
    summary = run(place, "held", mixture=REPLAY, stop=RULE | {"rise": 0.5})
    assert summary["steps"] == STEPS
    assert summary["forgetting"]["stopped_at_step"] is None
    assert summary["forgetting"]["why"] is None
    run(place, "unwatched", mixture=REPLAY)
    same_weights(place / "held", place / "unwatched")


def same_weights(one: Path, two: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("number", [2, 7, 11])
def test_killed_and_resumed_it_stops_alike(
    number: int,
    place: Path,
    stopped: tuple[Path, dict[str, Any]],
) -> None:
    expected, summary = stopped
    assert summary["forgetting"]["stopped_at_step"] >= number
    with killed_at_update(number):
        run(place, f"killed-{number}", mixture=ONLY_NEW, stop=RULE, **SLOW)
    resumed = run(place, f"killed-{number}", mixture=ONLY_NEW, stop=RULE, **SLOW)
    assert resumed["forgetting"] == summary["forgetting"]
    same_weights(expected, place / f"killed-{number}")
    assert bits(expected, "en") == bits(place / f"killed-{number}", "en")


def test_killed_after_it_stopped_it_does_not_train_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> None:
        raise Killed

    # The checkpoint of the very step at which it stops is written before the good weights are fetched.
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer.Trainer, "_last_good", dies)
        run(place, "late", mixture=ONLY_NEW, stop=RULE, checkpoint_every=1, **SLOW)
    resumed = run(place, "late", mixture=ONLY_NEW, stop=RULE, checkpoint_every=1, **SLOW)
    assert resumed["steps"] == resumed["forgetting"]["weights_of_step"]
    assert max(bits(place / "late", "en")) == resumed["forgetting"]["stopped_at_step"]


def test_a_run_that_forgets_at_once_leaves_nothing_and_says_what_to_change(place: Path) -> None:
    fast = {"learning_rate": 0.03, "schedule": "constant"}
    with pytest.raises(UserError, match="from the first measurement on") as caught:
        run(place, "reckless", mixture=ONLY_NEW, stop=RULE | {"rise": 0.001, "patience": 1}, optimiser=fast)
    assert "raise warmup_steps or this language's share" in str(caught.value)
    assert not (place / "reckless" / "model.safetensors").exists()


def test_a_language_that_is_not_held_out_is_refused_by_name(place: Path) -> None:
    with pytest.raises(UserError, match="how well 'pl' is predicted") as caught:
        run(place, "unknown", mixture=REPLAY, stop=RULE | {"probe": "pl"})
    assert "use one of en, hi" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heldout_every": None}, "every heldout_every steps; set it"),
        ({"spikes": {"rule": "rollback"}}, "exclude each other"),
    ],
)
def test_settings_that_a_stop_rule_cannot_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_training.settings(**{"heldout_every": 4, "stop": RULE, **changes})


def test_how_it_is_measured_counts_as_a_setting_where_it_decides() -> None:
    watched = [tiny_training.settings(heldout_every=every).decisive_settings() for every in (4, 5)]
    assert watched[0] == watched[1]
    deciding = [tiny_training.settings(heldout_every=every, stop=RULE).decisive_settings() for every in (4, 5)]
    assert deciding[0] != deciding[1]


def test_the_metrics_begin_before_the_first_step_once(place: Path) -> None:
    run(place, "twice", mixture=REPLAY, steps=4)
    (place / "twice" / "model.safetensors").unlink()
    for checkpoint in (place / "twice" / "checkpoints").glob("*"):
        (checkpoint / "position.json").unlink()
    run(place, "twice", mixture=REPLAY, steps=4)
    lines = (place / "twice" / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3, 4]
