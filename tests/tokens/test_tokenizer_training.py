"""Training: deterministic to the byte, balanced as asked, refused where the text does not carry it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from pydantic import ValidationError

from vernacular.foundation.errors import UserError
from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.documents import document_files
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.training import count_bytes, sample_texts, share_bytes, train_tokenizer

SMALL = TokenizerConfiguration(vocab_size=600, reserved_tokens=0)
AGAIN = """
import sys
import unicodedata
from pathlib import Path
from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.training import train_tokenizer
train_tokenizer(TokenizerConfiguration(vocab_size=600, reserved_tokens=0), Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_the_same_text_gives_the_same_bytes_in_other_processes(curated: Path, tmp_path: Path) -> None:
    train_tokenizer(SMALL, curated, tmp_path / "here")
    for number, threads in enumerate(("1", "2")):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        there = tmp_path / str(number)
        subprocess.run([sys.executable, "-c", AGAIN, str(curated), str(there)], check=True, env=environment)
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "report.json"):
            assert (there / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_the_report_gives_the_fit_by_language(tokenizer_folder: Path) -> None:
    report = json.loads((tokenizer_folder / "report.json").read_text())
    assert report["measured_on"] == "heldout"
    hindi, thai = report["languages"]["hi"], report["languages"]["th"]
    assert hindi["tokens_per_word"] == pytest.approx(hindi["tokens"] / hindi["words"], abs=1e-4)
    assert hindi["bytes_per_token"] > 1
    assert hindi["graphemes_per_token"] == pytest.approx(hindi["graphemes"] / hindi["tokens"], abs=1e-4)
    assert thai["tokens_per_word"] is None  # written without spaces: a count of words would mean nothing


def test_a_vocabulary_larger_than_the_text_supports_is_refused_with_the_reachable_size(
    make_curated: Callable[..., Path], tmp_path: Path
) -> None:
    curated = make_curated(train=[("hi", "घर में घर"), ("pl", "dom i dom")])
    with pytest.raises(UserError, match="larger than the text supports") as refused:
        train_tokenizer(SMALL, curated, tmp_path / "tokenizer")
    reachable = int(str(refused.value.fix).split("at most ")[1].split(",")[0])
    assert not (tmp_path / "tokenizer").exists()
    fitting = TokenizerConfiguration(vocab_size=reachable, reserved_tokens=0)
    assert train_tokenizer(fitting, curated, tmp_path / "tokenizer")["vocab_size"] == reachable


def test_no_documents_and_no_text_are_refused(make_curated: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documents"):
        train_tokenizer(SMALL, tmp_path / "nowhere", tmp_path / "tokenizer")
    with pytest.raises(UserError, match="hold no text"):
        train_tokenizer(SMALL, make_curated(train=[]), tmp_path / "tokenizer")


def test_a_language_absent_from_the_text_is_refused(make_curated: Callable[..., Path], tmp_path: Path) -> None:
    curated = make_curated(train=[("hi", "घर"), ("pl", "dom")])
    configuration = TokenizerConfiguration(vocab_size=600, language_shares={"hi": 1, "ta": 1})
    with pytest.raises(UserError, match="'ta' is absent") as refused:
        train_tokenizer(configuration, curated, tmp_path / "tokenizer")
    assert "hi, pl" in str(refused.value.fix)


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "documents" / "train" / "00000.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not at all")
    with pytest.raises(UserError, match="not a Parquet file") as refused:
        train_tokenizer(SMALL, tmp_path, tmp_path / "tokenizer")
    assert refused.value.where == str(path)


@pytest.mark.parametrize(("exponent", "hindi_share"), [(1.0, 0.2), (0.0, 0.5), (0.5, 1 / 3)])
def test_languages_are_balanced_as_asked(
    make_curated: Callable[..., Path], exponent: float, hindi_share: float
) -> None:
    rows = [("hi", f"क{number:07d}") for number in range(100)] + [("pl", f"ą{number:08d}") for number in range(400)]
    paths = document_files(make_curated(train=rows), "train")
    available = count_bytes(paths)
    assert available == {"hi": 1000, "pl": 4000}
    configuration = TokenizerConfiguration(vocab_size=600, language_exponent=exponent)
    wanted = share_bytes(configuration, available, Path("."))
    texts = [text for batch in sample_texts(paths, available, wanted) for text in batch]
    hindi = sum(len(text.encode()) for text in texts if text.startswith("क"))
    total = sum(len(text.encode()) for text in texts)
    assert total == pytest.approx(5000, abs=20)
    assert hindi / total == pytest.approx(hindi_share, abs=0.01)


def test_a_sample_is_spread_over_the_whole_corpus(make_curated: Callable[..., Path]) -> None:
    rows = [("hi", f"{number:010d}") for number in range(1000)]
    paths = document_files(make_curated(train=rows), "train")
    configuration = TokenizerConfiguration(vocab_size=600, sample_bytes=1000)
    wanted = share_bytes(configuration, count_bytes(paths), Path("."))
    numbers = [int(text) for batch in sample_texts(paths, count_bytes(paths), wanted) for text in batch]
    assert len(numbers) == 100
    assert numbers == sorted(set(numbers))
    assert numbers[-1] >= 900


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least 278"):
        TokenizerConfiguration(vocab_size=270)
    with pytest.raises(ValidationError, match="distinct"):
        TokenizerConfiguration(special_tokens=("<|user|>",))
    with pytest.raises(ValidationError, match="share above 0"):
        TokenizerConfiguration(language_shares={"hi": 0})


def test_digits_and_special_tokens_follow_the_settings(curated: Path, tmp_path: Path) -> None:
    configuration = TokenizerConfiguration(
        vocab_size=700, digits="groups", special_tokens=("<|tool|>",), reserved_tokens=2, max_positions=77
    )
    train_tokenizer(configuration, curated, tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.token_id("<|tool|>") == 6
    assert tokenizer.token_id("<|reserved_1|>") == 8
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 77
    pattern = json.loads((tmp_path / "tokenizer.json").read_text())["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    assert "{1,3}" in pattern["Regex"]


def test_a_unigram_tokenizer_is_the_same_every_time_and_gives_every_text_back(
    curated: Path, tmp_path: Path, sentences: dict[str, list[str]], horrible: list[str]
) -> None:
    configuration = TokenizerConfiguration(algorithm="unigram", vocab_size=440, reserved_tokens=2)
    hashes = {train_tokenizer(configuration, curated, tmp_path / name)["tokenizer_hash"] for name in ("one", "other")}
    assert len(hashes) == 1
    tokenizer = Tokenizer.load(tmp_path / "one")
    assert (tokenizer.vocab_size, tokenizer.end_id, tokenizer.token_id("<|reserved_1|>")) == (440, 2, 7)
    texts = [text for group in sentences.values() for text in group] + horrible + ["".join(map(chr, range(256)))]
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokenizer.decode(ids) == text
        assert max(ids, default=8) >= 8  # no text spells a control token
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "one")
    assert theirs(texts[:20], add_special_tokens=False)["input_ids"] == tokenizer.encode_batch(texts[:20])


def test_more_pieces_than_the_text_supports_are_refused_for_unigram_too(
    make_curated: Callable[..., Path], tmp_path: Path
) -> None:
    curated = make_curated(train=[("hi", "घर में घर"), ("pl", "dom i dom")])
    configuration = TokenizerConfiguration(algorithm="unigram", vocab_size=2000, reserved_tokens=0)
    with pytest.raises(UserError, match="larger than the text supports"):
        train_tokenizer(configuration, curated, tmp_path / "tokenizer")


def test_the_composed_form_is_what_comes_back_where_it_is_asked_for(curated: Path, tmp_path: Path) -> None:
    train_tokenizer(TokenizerConfiguration(vocab_size=700, normalisation="nfc"), curated, tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    composed = "Zażółć gęślą jaźń"
    decomposed = unicodedata.normalize("NFD", composed)
    assert tokenizer.encode(decomposed) == tokenizer.encode(composed)
    assert tokenizer.decode(tokenizer.encode(decomposed)) == composed


def test_rare_words_are_dropped_where_there_is_no_room_and_the_report_says_so(curated: Path, tmp_path: Path) -> None:
    exact = train_tokenizer(SMALL, curated, tmp_path / "exact")
    assert exact["counts_short_by_at_most"] == 0
    report = train_tokenizer(SMALL.model_copy(update={"max_words": 90}), curated, tmp_path / "narrow")
    assert report["counts_short_by_at_most"] > 0
