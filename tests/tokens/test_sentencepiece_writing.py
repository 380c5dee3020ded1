"""Our tokenizers as SentencePiece models: the library gives the ids that we give, or nothing is written."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from own_sentences import HORRIBLE, SENTENCES, write_documents
from vernacular.cli.main import main
from vernacular.foundation.errors import UserError
from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.measures import describe_fit, measure_fit
from vernacular.tokens.sentencepiece_writing import write_model
from vernacular.tokens.template import ChatTemplate
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.training import train_tokenizer

DECLARATION = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text" / "udhr"
SIZES = {"bpe": 1500, "unigram": 760}
LINES = [line for lines in SENTENCES.values() for line in lines]


@cache
def trained(algorithm: str) -> Path:
    """A folder with the tokenizer in `tokenizer/`, and its model as a file and in a folder of its own."""
    folder = Path(tempfile.mkdtemp())
    rows = [(language, line) for language, lines in SENTENCES.items() for line in lines] * 4
    write_documents(folder / "curated", "train", rows)
    configuration = TokenizerConfiguration.model_validate(
        {"algorithm": algorithm, "writing": "sentencepiece", "vocab_size": SIZES[algorithm], "special_tokens": ["<x>"]}
    )
    train_tokenizer(configuration, folder / "curated", folder / "tokenizer")
    write_model(folder / "tokenizer", folder / "alone" / "tokenizer.model")
    return folder


@cache
def both(algorithm: str) -> tuple[Any, Tokenizer]:
    folder = trained(algorithm)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "alone" / "tokenizer.model"))
    return theirs, Tokenizer.load(folder / "tokenizer")


controls = st.sampled_from(["<|end|>", "<unk>", "<x>", "<0x41>", " ", "   ", "\n", "\r\n", "\u200d"])
words = st.sampled_from(sorted({word for line in LINES for word in line.split()}))
letters = st.sampled_from(sorted(set("".join(LINES))))
anything = st.lists(
    st.one_of(controls, words, letters, letters, st.characters(exclude_categories=("Cs",))), max_size=40
).map("".join)


@pytest.mark.parametrize("algorithm", SIZES)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=anything)
def test_any_text_gets_the_same_ids_there_and_comes_back(algorithm: str, text: str) -> None:
    theirs, ours = both(algorithm)
    ids = ours.encode(text)
    assert theirs.encode(text) == ids
    assert ours.decode(ids) == theirs.decode(ids) == text.replace("▁", " ")


@pytest.mark.parametrize("algorithm", SIZES)
def test_long_texts_get_the_same_ids(algorithm: str) -> None:
    theirs, ours = both(algorithm)
    for text in [*HORRIBLE, "\n".join(LINES * 3), "".join(LINES), "a" * 3000, " " * 999]:
        assert theirs.encode(text) == ours.encode(text)


@pytest.mark.slow
@pytest.mark.skipif(not DECLARATION.is_dir(), reason="needs ../shared/data/text/udhr")
@pytest.mark.parametrize("algorithm", SIZES)
def test_lines_of_the_declaration_get_the_same_ids(algorithm: str) -> None:
    theirs, ours = both(algorithm)
    lines: list[str] = []
    for path in sorted(DECLARATION.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines += [line for record in file for line in json.loads(record)["text"].split("\n")]
    assert len(lines) > 50_000
    lines = lines[::4]
    encoded = ours.encode_batch(lines)
    assert encoded == theirs.encode(lines)
    assert [ours.decode(ids) for ids in encoded] == lines


@pytest.mark.parametrize("algorithm", SIZES)
def test_the_model_read_back_is_the_same_tokenizer(algorithm: str, tmp_path: Path) -> None:
    folder = trained(algorithm)
    ours, again = Tokenizer.load(folder / "tokenizer"), Tokenizer.load(folder / "alone")
    assert again.special_names == ours.special_names
    assert {text: token.id for text, token in again.control_tokens.items()} == {
        text: token.id for text, token in ours.control_tokens.items()
    }
    assert [again.token_text(n) for n in range(again.vocab_size)] == [
        ours.token_text(n) for n in range(ours.vocab_size)
    ]
    texts = [*LINES, *HORRIBLE]
    assert again.encode_batch(texts, begin=True, end=True) == ours.encode_batch(texts, begin=True, end=True)
    again.save(tmp_path / "again")
    write_model(tmp_path / "again", tmp_path / "again.model")
    write_model(folder / "tokenizer", tmp_path / "first.model")
    assert (tmp_path / "again.model").read_bytes() == (tmp_path / "first.model").read_bytes()


@pytest.mark.parametrize("algorithm", SIZES)
def test_transformers_and_the_chat_template_take_it(algorithm: str) -> None:
    transformers = pytest.importorskip("transformers")
    folder = trained(algorithm) / "tokenizer"
    ours, theirs = Tokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for text in [*LINES, " two  blanks ", "\n"]:
        assert theirs(text)["input_ids"] == ours.encode(text, begin=True)
    messages = [{"role": "user", "content": LINES[0]}, {"role": "assistant", "content": LINES[1]}]
    pieces = ChatTemplate.load(folder).training_pieces(ours, messages)
    assert next(piece.text for piece in pieces if piece.weight) == LINES[1]


def test_training_is_the_same_whatever_the_order_of_documents(tmp_path: Path) -> None:
    rows = [(language, line) for language, lines in SENTENCES.items() for line in lines]
    hashes = set()
    for number, ordered in enumerate((rows, rows[::-1])):
        write_documents(tmp_path / str(number), "train", ordered)
        configuration = TokenizerConfiguration(writing="sentencepiece", vocab_size=560)
        report = train_tokenizer(configuration, tmp_path / str(number), tmp_path / f"{number}-tokenizer")
        hashes.add(report["tokenizer_hash"])
    assert len(hashes) == 1


def test_words_are_whole_pieces_and_digits_stand_alone() -> None:
    _, ours = both("bpe")
    assert [ours.token_text(n) for n in ours.encode("a 2024")][-4:] == ["2", "0", "2", "4"]
    fit = describe_fit(measure_fit(ours, [(["hi"] * 3, SENTENCES["hi"])]))["hi"]
    assert fit["tokens_per_word"] is not None and fit["tokens_per_word"] < 2.5


def test_rare_characters_are_written_in_bytes(tmp_path: Path) -> None:
    write_documents(tmp_path, "train", [("zh", "水" * 5000), ("zh", "火火。")])
    configuration = TokenizerConfiguration(writing="sentencepiece", vocab_size=322, character_coverage=0.999)
    train_tokenizer(configuration, tmp_path, tmp_path / "tokenizer")
    ours = Tokenizer.load(tmp_path / "tokenizer")
    assert [ours.token_text(n) for n in ours.encode("火")] == ["<0xE7>", "<0x81>", "<0xAB>"]
    assert ours.decode(ours.encode("火水")) == "火水"


def test_too_many_characters_and_forms_it_cannot_say_are_refused(tmp_path: Path) -> None:
    write_documents(tmp_path, "train", [("zh", "".join(map(chr, range(0x4E00, 0x4F00))) * 3)])
    configuration = TokenizerConfiguration(writing="sentencepiece", vocab_size=340)
    with pytest.raises(UserError, match=r"no room for \d+ characters beside 256 bytes"):
        train_tokenizer(configuration, tmp_path, tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="normalisation nfc cannot be said"):
        TokenizerConfiguration(writing="sentencepiece", normalisation="nfc")


# -------------------------------------------------------------------------------------------- published models


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("removes", [False, True])
def test_a_model_that_came_in_goes_out_with_the_same_ids(kind: str, removes: bool, tmp_path: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*LINES, "a/s", "<unk> </s> <0x0123456789ABCDEF> s/"] * 5),
        model_writer=model,
        model_type=kind,
        vocab_size=900,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=removes,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tokenizer.model").write_bytes(model.getvalue())
    Tokenizer.load(tmp_path / "source").save(tmp_path / "ours")
    write_model(tmp_path / "ours", tmp_path / "again.model")
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    again = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "again.model"))
    texts = [*LINES, *HORRIBLE]
    assert again.encode(texts) == theirs.encode(texts)
    assert (again.bos_id(), again.eos_id(), again.unk_id()) == (theirs.bos_id(), theirs.eos_id(), theirs.unk_id())


def changed(change: Callable[[dict[str, Any]], object], folder: Path, algorithm: str = "bpe") -> Path:
    Tokenizer.load(trained(algorithm) / "tokenizer").save(folder)
    description = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    change(description)
    (folder / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "cuts": (lambda it: it.update(pre_tokenizer=METASPACE), "pre_tokenizer Metaspace"),
    "a normaliser": (lambda it: it.update(normalizer={"type": "NFC"}), "normalizer NFC"),
    "a decoder": (lambda it: it["decoder"]["decoders"].pop(), "decoder"),
    "dropout": (lambda it: it["model"].update(dropout=0.1), "model.dropout 0.1"),
    "a merge that is missing": (lambda it: it["model"]["merges"].pop(-2), "SentencePiece"),
    "no merges": (lambda it: it["model"].update(merges=[]), "no merge makes"),
    "no unknown token": (lambda it: it["model"].update(unk_token=None), "no unknown token"),
    "a flag": (lambda it: it["added_tokens"][0].update(lstrip=True), "special tokens would be read otherwise"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_sentencepiece_cannot_say_is_refused_by_name(what: str, tmp_path: Path) -> None:
    change, reason = REFUSED[what]
    folder = changed(change, tmp_path / "tokenizer")
    with pytest.raises(UserError, match=reason):
        write_model(folder, tmp_path / "tokenizer.model")
    assert not (tmp_path / "tokenizer.model").exists()


def test_scores_that_single_precision_rounds_are_refused(tmp_path: Path) -> None:
    folder = changed(lambda it: it["model"]["vocab"][400].__setitem__(1, -7.123456789123), tmp_path / "t", "unigram")
    with pytest.raises(UserError, match=r"scores -7.123456789"):
        write_model(folder, tmp_path / "tokenizer.model")


def test_the_command_writes_a_file_and_refuses_bytes(
    tmp_path: Path, tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tokenizer.model"
    source = str(trained("bpe") / "tokenizer")
    assert main(["export", source, str(out), "--format", "sentencepiece"]) == 0
    assert "SentencePiece BPE, 1,500 pieces" in capsys.readouterr().out
    before = out.read_bytes()
    assert main(["export", source, str(out), "--format", "sentencepiece"]) != 0
    assert "--force" in capsys.readouterr().err
    assert main(["export", source, str(out), "--format", "sentencepiece", "--dtype", "float32"]) != 0
    assert "--dtype" in capsys.readouterr().err
    assert main(["export", str(tokenizer_folder), str(out), "--format", "sentencepiece", "--force"]) != 0
    assert "its pieces are bytes (ByteLevel)" in capsys.readouterr().err
    assert out.read_bytes() == before
