"""Training on a mixture: counted by language, resumed exactly, scored by language; the same for any source of rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from killed_training import killed_at_update
from tiny_training import settings
from vernacular.models.weights import load_decoder
from vernacular.tokens.shards import ShardReader
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.pretrain import pretrain


def train(folder: Path, tokens: Path, tokenizer: Path, **changes: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    configuration = settings(heldout_every=3, heldout_tokens=10_000, **changes)
    return pretrain(configuration, tokens=tokens, tokenizer=tokenizer, weights=None, folder=folder, name="base")


def languages_of(tokens: Path) -> list[str]:
    return sorted({shard.language for shard in ShardReader.open(tokens, "train").shards})


def test_a_mixture_is_counted_and_its_languages_are_scored(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    first, second, *others = languages_of(tokens)
    mixture = {"by": "language", "shares": {first: 3, second: 1}}
    summary = train(tmp_path, tokens, tokenizer, mixture=mixture)
    last = read_metrics(tmp_path)[-1]
    assert last[f"tokens/{first}"] == 3 * last[f"tokens/{second}"] == 6 * 72
    assert summary["mixture"]["cells"][first]["tokens"] == 6 * 72
    assert summary["mixture"]["cells"][first]["epochs"] == pytest.approx(last[f"epochs/{first}"], abs=1e-4)
    assert f"{first} 75.00%" in summary["mixture"]["phases"][0]
    assert all(f"heldout_loss/{language}" in last for language in (first, second, *others))
    assert summary[f"heldout_bits_per_byte/{second}"] == last[f"heldout_bits_per_byte/{second}"]


def test_the_loss_of_a_language_is_that_of_its_documents(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    train(tmp_path, tokens, tokenizer, kernels="torch")
    last = read_metrics(tmp_path)[-1]
    decoder, encoder = load_decoder(tmp_path).eval(), Tokenizer.load(tokenizer)
    language = languages_of(tokens)[0]
    reader = ShardReader([tokens], "heldout", language=language)
    stream = torch.from_numpy(reader.slice(0, reader.num_tokens))
    owners = [reader.document_at(position) for position in range(reader.num_tokens)]
    nats, count, length = 0.0, 0, 0
    for start in range(0, reader.num_tokens - 1, 24):  # a document cut by the end of a row is read anew
        window = stream[start : start + 25]
        mine = owners[start : start + 25]
        for document in sorted(set(mine)):
            ids = torch.stack([token for token, owner in zip(window, mine, strict=True) if owner == document])
            if len(ids) > 1:
                with torch.no_grad():
                    scores = decoder.logits(decoder(ids[None, :-1]))[0].log_softmax(-1)
                nats -= float(scores[range(len(ids) - 1), ids[1:]].sum())
                count += len(ids) - 1
    for document in range(reader.num_documents):
        length += len(encoder.decode(reader.slice(*reader.document_range(document)).tolist()).encode())
    assert last[f"heldout_loss/{language}"] == pytest.approx(nats / count, rel=1e-4)
    assert last[f"heldout_bits_per_byte/{language}"] == pytest.approx(nats / math.log(2) / length, rel=1e-4)


def test_a_curriculum_killed_between_its_phases_goes_on_to_the_same_bits(
    tmp_path: Path, tokens: Path, tokenizer: Path
) -> None:
    first, second, *_ = languages_of(tokens)
    curriculum = [
        {"until": 0.5, "mixture": {"by": "language", "exponent": 0.3}},
        {"until": 1.0, "mixture": {"by": "language", "shares": {first: 1, second: 1}, "max_epochs": 40}},
    ]
    train(tmp_path / "undisturbed", tokens, tokenizer, curriculum=curriculum)
    with killed_at_update(3):
        train(tmp_path / "killed", tokens, tokenizer, curriculum=curriculum)
    train(tmp_path / "killed", tokens, tokenizer, curriculum=curriculum)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("undisturbed", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    lines = [json.loads(json.dumps(read_metrics(tmp_path / name)[-1])) for name in ("undisturbed", "killed")]
    counted = [{key: line[key] for key in line if key.startswith(("tokens/", "epochs/"))} for line in lines]
    assert counted[0] == counted[1] != {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture": {"by": "language"}, "curriculum": [{"until": 1, "mixture": {"by": "language"}}]}, "exclude"),
        ({"curriculum": [{"until": 0.5, "mixture": {"by": "language"}}]}, "the last at 1"),
        (
            {"curriculum": [{"until": u, "mixture": {"by": by}} for u, by in ((0.5, "source"), (1, "language"))]},
            "mix by the same",
        ),
    ],
)
def test_mixtures_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changes)
