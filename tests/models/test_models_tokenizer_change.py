"""Weights with another tokenizer: what is kept computes as before, to the bit; what is new is made of what was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from vernacular.foundation.errors import UserError
from vernacular.inference.model import load
from vernacular.models.configuration import ChangeTokenizerConfiguration
from vernacular.models.similar_tokens import sparsemax
from vernacular.models.tokenizer_change import change_tokenizer
from vernacular.models.weights import load_decoder
from vernacular.tokens.configuration import ExtendTokenizerConfiguration, TrimTokenizerConfiguration
from vernacular.tokens.extension import extend_tokenizer
from vernacular.tokens.token_bytes import token_bytes
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.trimming import trim_tokenizer

BENGALI = [
    "নদীর ধারে একটি ছোট গ্রাম আছে, গ্রামে একটি পুরানো বটগাছ আছে।",
    "বাংলা ভাষা খুব মিষ্টি, বাংলা গান আরও মিষ্টি।",
    "সকালে পাখিরা গান গায়, বিকালে ছেলেরা মাঠে খেলে।",
]
POLISH = ["Źdźbło trawy i źrebię nad brzegiem jeziora.", "Gęś i źrebię słuchają dudnienia źdźbła."]
OLD_TEXTS = [text for texts in tiny.SENTENCES.values() for text in texts]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama", "tie_embeddings": False},
    "llama, tied": {"family": "llama", "tie_embeddings": True},
    "granitemoe, padded": {
        "family": "granitemoe", "tie_embeddings": True, "feed_forward": "experts", "num_experts": 4,
        "experts_per_token": 2, "attention_multiplier": 0.35, "logits_scaling": 3.0, "vocab_size": 448,
    },
}  # fmt: skip
NEW = 90


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("change")
    tiny.make_tokenizer(folder / "tokenizer")
    for name, texts, number, only_with in (
        ("texts", BENGALI, NEW, {"scripts": ["Beng"]}),
        ("polish", POLISH, 12, {"characters": "ąęłńóśźż"}),
    ):
        path = folder / name / "documents" / "train" / "00000.parquet"
        path.parent.mkdir(parents=True)
        columns = {"id": [f"{place:032x}" for place in range(len(texts))], "text": texts}
        parquet.write_table(pa.table({**columns, "language": ["new"] * len(texts)}), path)
        extending = {"new_pieces": number, "min_frequency": 1, "only_with": only_with}
        configuration = ExtendTokenizerConfiguration.model_validate(extending)
        out = folder / ("extended" if name == "texts" else "extended-polish")
        extend_tokenizer(configuration, folder / "tokenizer", folder / name, out)
    trim_tokenizer(TrimTokenizerConfiguration(), folder / "tokenizer", folder / "texts", folder / "trimmed")
    return folder


@pytest.fixture(scope="module")
def changed(place: Path) -> Callable[..., tuple[Path, Path, dict[str, Any]]]:
    """changed(family, tokenizer, …): the weights before, after, and the summary."""

    def make(family: str, tokenizer: str, **values: Any) -> tuple[Path, Path, dict[str, Any]]:
        number = len(list(place.glob("after-*")))
        before, after = place / f"before-{family}", place / f"after-{number}"
        if not before.exists():
            tiny.make_weights(before, place / "tokenizer", **FAMILIES[family])
        configuration = ChangeTokenizerConfiguration.model_validate(values)
        return before, after, change_tokenizer(configuration, before, place / tokenizer, after)

    return make


def tables(folder: Path) -> dict[str, torch.Tensor]:
    found = load_file(folder / "model.safetensors")
    return {name: found[name] for name in ("model.embed_tokens.weight", "lm_head.weight") if name in found}


def pieces(folder: Path) -> dict[int, list[int]]:
    ids = json.loads((folder / "token_map.json").read_text(encoding="utf-8"))["ids"]
    return {int(new): old for new, old in ids.items() if isinstance(old, list)}


@pytest.mark.parametrize("method", ["pieces", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_old_text_has_its_old_scores_to_the_bit(
    family: str, method: str, changed: Callable[..., tuple[Path, Path, dict[str, Any]]]
) -> None:
    before, after, summary = changed(family, "extended", new_tokens=method)
    assert summary["new_tokens"] == NEW
    assert summary["kept_tokens"] == tiny.VOCAB_SIZE
    tokenizers = Tokenizer.load(before), Tokenizer.load(after)
    models = load(before), load(after)
    decoders = load_decoder(before), load_decoder(after)
    for text in OLD_TEXTS:
        ids = tokenizers[0].encode(text, begin=True)
        assert tokenizers[1].encode(text, begin=True) == ids
        with torch.no_grad():
            hidden = [decoder(torch.tensor([ids])) for decoder in decoders]
            scores = [decoder.logits(states) for decoder, states in zip(decoders, hidden, strict=True)]
        assert torch.equal(hidden[0], hidden[1])
        kept = slice(0, tiny.VOCAB_SIZE)
        assert torch.equal(scores[0][..., kept], scores[1][..., kept])
        by_engine = [model.logits(ids) for model in models]
        assert torch.equal(by_engine[0][..., kept], by_engine[1][..., kept])


@pytest.mark.parametrize("family", FAMILIES)
def test_trimmed_weights_score_what_is_left_as_before(
    family: str, changed: Callable[..., tuple[Path, Path, dict[str, Any]]]
) -> None:
    before, after, summary = changed(family, "trimmed", multiple_of=16)
    assert summary["new_tokens"] == 0
    assert summary["rows"] % 16 == 0
    assert summary["rows"] - summary["vocab_size"] < 16
    ids = json.loads((after / "token_map.json").read_text(encoding="utf-8"))["ids"]
    new_ids, old_ids = [int(new) for new in ids], list(ids.values())
    decoders = load_decoder(before), load_decoder(after)
    tokenizers = Tokenizer.load(before), Tokenizer.load(after)
    for text in [*BENGALI, "1 + 1 = 2?"]:
        with torch.no_grad():
            old, new = (
                decoder.logits(decoder(torch.tensor([tokenizer.encode(text, begin=True)])))
                for decoder, tokenizer in zip(decoders, tokenizers, strict=True)
            )
        assert torch.equal(new[..., new_ids], old[..., old_ids])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_row_is_the_mean_of_its_pieces(
    family: str, changed: Callable[..., tuple[Path, Path, dict[str, Any]]]
) -> None:
    before, after, _ = changed(family, "extended")
    old, new = tables(before), tables(after)
    assert old.keys() == new.keys()
    for name in old:
        assert torch.equal(new[name][: tiny.VOCAB_SIZE], old[name][: tiny.VOCAB_SIZE])
        for token, spelt in pieces(after).items():
            assert len(spelt) > 1
            torch.testing.assert_close(new[name][token], old[name][spelt].mean(0))


def test_pieces_weigh_by_their_bytes(changed: Callable[..., tuple[Path, Path, dict[str, Any]]]) -> None:
    before, after, _ = changed("llama", "extended-polish", new_tokens="pieces-by-bytes")
    lengths = [len(content) for content in token_bytes(Tokenizer.load(before))]
    old, new = tables(before)["lm_head.weight"], tables(after)["lm_head.weight"]
    uneven = 0
    for token, spelt in pieces(after).items():
        weights = torch.tensor([lengths[piece] for piece in spelt]).float()
        torch.testing.assert_close(new[token], weights @ old[spelt] / weights.sum())
        uneven += len({*weights.tolist()}) > 1
    assert uneven


def test_the_mean_and_its_noise(changed: Callable[..., tuple[Path, Path, dict[str, Any]]]) -> None:
    before, plain, _ = changed("llama", "extended", new_tokens="mean")
    old = tables(before)["model.embed_tokens.weight"]
    rows = tables(plain)["model.embed_tokens.weight"][tiny.VOCAB_SIZE :]
    torch.testing.assert_close(rows, old.mean(0).expand_as(rows))
    noisy = [
        tables(changed("llama", "extended", new_tokens="mean", noise=0.5, seed=seed)[1])["model.embed_tokens.weight"]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])
    drawn = noisy[0][tiny.VOCAB_SIZE :] - old.mean(0)
    assert drawn.std().item() == pytest.approx(0.5 * (old - old.mean(0)).std().item(), rel=0.1)


def test_rows_are_taken_from_a_file(changed: Callable[..., tuple[Path, Path, dict[str, Any]]], tmp_path: Path) -> None:
    ids = torch.arange(tiny.VOCAB_SIZE, tiny.VOCAB_SIZE + NEW).flip(0)
    embedding, head = (torch.randn(NEW, 32, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    save_file({"ids": ids, "embedding": embedding, "head": head}, tmp_path / "rows.safetensors")
    _, after, _ = changed("llama", "extended", new_tokens="file", rows=str(tmp_path / "rows.safetensors"))
    found = tables(after)
    assert torch.equal(found["model.embed_tokens.weight"][ids], embedding)
    assert torch.equal(found["lm_head.weight"][ids], head)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"embedding": (NEW, 32), "head": (NEW, 32)}, "no tensor `ids`"),
        ({"ids": (NEW,), "embedding": (NEW, 32)}, "no tensor `head`"),
        ({"ids": (NEW,), "embedding": (NEW, 8), "head": (NEW, 32)}, r"is \[90, 8\]; it must be \[90, 32\]"),
        ({"ids": (3,), "embedding": (3, 32), "head": (3, 32)}, "the 90 new tokens' ids"),
    ],
)
def test_a_file_of_other_rows_is_refused(
    tensors: dict[str, tuple[int, ...]],
    message: str,
    changed: Callable[..., tuple[Path, Path, dict[str, Any]]],
    tmp_path: Path,
) -> None:
    first = tiny.VOCAB_SIZE
    made = {
        name: torch.arange(first, first + shape[0]) if name == "ids" else torch.zeros(shape)
        for name, shape in tensors.items()
    }
    save_file(made, tmp_path / "rows.safetensors")
    with pytest.raises(UserError, match=message):
        changed("llama", "extended", new_tokens="file", rows=str(tmp_path / "rows.safetensors"))


def test_similar_tokens_make_a_row(changed: Callable[..., tuple[Path, Path, dict[str, Any]]], tmp_path: Path) -> None:
    """A new word whose vector is that of an old one gets its row; a new piece without vector that of its pieces."""
    _, after, _ = changed("llama", "extended")
    new = Tokenizer.load(after)
    words = {number: content.decode("utf-8", "ignore").strip() for number, content in enumerate(token_bytes(new))}
    alone = [number for number, word in words.items() if list(words.values()).count(word) == 1]
    token = next(number for number in pieces(after) if len(words[number]) > 2 and number in alone)
    anchors = [number for number in alone if number < tiny.VOCAB_SIZE and len(words[number]) > 1][10:16]
    lines = [f"{words[number]} {' '.join('1' if place == at else '0' for place in range(6))}"
             for at, number in enumerate(anchors)]  # fmt: skip
    lines.append(f"{words[token]} 0 0 5 0 0 0")
    (tmp_path / "words.vec").write_text("7 6\n" + "\n".join(lines) + "\n", encoding="utf-8")
    vectors = str(tmp_path / "words.vec")
    before, similar, summary = changed("llama", "extended", new_tokens="vectors", vectors=vectors)
    old, found = tables(before)["lm_head.weight"], tables(similar)["lm_head.weight"]
    torch.testing.assert_close(found[token], old[anchors[2]])
    assert summary["new_tokens_with_a_vector"] == sum(words[number] == words[token] for number in pieces(after))
    other = next(number for number in pieces(after) if words[number] != words[token])
    torch.testing.assert_close(found[other], old[pieces(after)[other]].mean(0))


def test_the_sparsemax_is_the_nearest_distribution() -> None:
    scores = np.array([0.9, 0.85, 0.2, -0.5])
    weights = sparsemax(scores)
    assert weights.tolist() == pytest.approx([0.525, 0.475, 0.0, 0.0])
    rivals = np.random.default_rng(3).dirichlet(np.ones(4), size=2000)
    assert ((weights - scores) ** 2).sum() <= ((rivals - scores) ** 2).sum(1).min()


def test_ids_that_files_name_follow_their_tokens(
    changed: Callable[..., tuple[Path, Path, dict[str, Any]]], place: Path, tmp_path: Path
) -> None:
    before, after, _ = changed("llama", "trimmed")
    new = Tokenizer.load(after)
    for name in ("config.json", "generation_config.json"):
        stated = json.loads((after / name).read_text(encoding="utf-8"))
        assert stated["eos_token_id"] == new.end_id
        assert stated["pad_token_id"] == new.pad_id
    config = json.loads((before / "config.json").read_text(encoding="utf-8"))
    gone = next(old for old in range(300, tiny.VOCAB_SIZE) if old not in set(json.loads(
        (after / "token_map.json").read_text(encoding="utf-8"))["ids"].values()))  # fmt: skip
    other = tiny.make_weights(tmp_path / "other", place / "tokenizer")
    (other / "config.json").write_text(json.dumps(config | {"eos_token_id": [2, gone]}), encoding="utf-8")
    with pytest.raises(UserError, match="eos_token_id is"):
        change_tokenizer(ChangeTokenizerConfiguration(), other, place / "trimmed", tmp_path / "out")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"new_tokens": "file"}, "belong together"),
        ({"vectors": "words.vec"}, "belong together"),
        ({"noise": 0.1}, "noise belongs to"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChangeTokenizerConfiguration.model_validate(values)
