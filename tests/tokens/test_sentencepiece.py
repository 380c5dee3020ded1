"""A SentencePiece model becomes a tokenizer.json with the same ids, or is refused by what it holds."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from vernacular.foundation.errors import UserError
from vernacular.inference.detokenisation import Detokeniser
from vernacular.tokens.tokenizer import Tokenizer

SENTENCES = [
    "Zażółć gęślą jaźń, powiedział źrebak i uciekł.",
    "नदी के किनारे बच्चे पतंग उड़ाते हैं।",
    "हिन्दी में लिखना मुझे अच्छा लगता है।",
    "தமிழ் மொழி மிகவும் பழமையானது.",
    "மழை பெய்தால் குளம் நிரம்பும்.",
    "👍🏽 dobrze   trzy blanki 👩‍👩‍👧",
    "a < b > c / d 0123456789 ABCDEF sunk x",
]
KINDS: dict[str, dict[str, Any]] = {
    "bpe": {"model_type": "bpe", "vocab_size": 520, "byte_fallback": True},
    "bpe, blanks removed": {
        "model_type": "bpe", "vocab_size": 520, "byte_fallback": True, "remove_extra_whitespaces": True,
    },
    "bpe, no dummy prefix, symbols": {
        "model_type": "bpe", "vocab_size": 500, "byte_fallback": True, "add_dummy_prefix": False,
        "user_defined_symbols": ["<tag>", "<tag>more"],
    },
    "bpe, no bytes": {"model_type": "bpe", "vocab_size": 250},
    "unigram": {"model_type": "unigram", "vocab_size": 390, "byte_fallback": True},
    "unigram, blanks removed": {
        "model_type": "unigram", "vocab_size": 390, "byte_fallback": True, "remove_extra_whitespaces": True,
    },
}  # fmt: skip


@cache
def train(kind: str) -> bytes:
    return train_with(**KINDS[kind])


def train_with(**options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 10),
        model_writer=model,
        **{
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "character_coverage": 1.0,
            "hard_vocab_limit": False,
            "minloglevel": 2,
            **options,
        },
    )
    return model.getvalue()


@cache
def both(kind: str) -> tuple[Any, Tokenizer]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.model").write_bytes(train(kind))
        return sentencepiece.SentencePieceProcessor(model_proto=train(kind)), Tokenizer.load(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.model").write_bytes(train("bpe"))
    return tmp_path


BLOCKS = [(0x0900, 0x097F), (0x0B80, 0x0BFF), (0x0100, 0x017F), (0x1F440, 0x1F480), (0x0000, 0x00FF)]
known = st.sampled_from(
    [*sorted(set("".join(SENTENCES))), " ", "  ", "▁", "\n", "<s>", "</s>", "<0x41>", "<unk>", "<tag>"]
)
scripts = st.one_of(st.characters(min_codepoint=low, max_codepoint=high) for low, high in BLOCKS)
words = st.sampled_from([word for sentence in SENTENCES for word in sentence.split()])
anything = st.lists(
    st.one_of(known, known, words, scripts, st.characters(exclude_categories=("Cs",))), max_size=30
).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=anything)
@example(text="")
@example(text="   ")
@example(text="\n  x \n ")
@example(text="▁▁a▁ ▁")
@example(text="<s></s><unk><0x41><tag>more")
@example(text="aaaaaaa      bbbb")
def test_any_text_gets_sentencepieces_ids(kind: str, text: str) -> None:
    theirs, ours = both(kind)
    ids = theirs.encode(text)
    assert ours.encode(text) == ids
    if theirs.unk_id() not in ids:  # SentencePiece writes ⁇ for an unknown token, the tokenizers library nothing
        assert ours.decode(ids) == theirs.decode(ids)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ids=st.lists(st.one_of(st.integers(3, 258), st.integers(3, 519)), max_size=12))
@example(ids=[byte + 3 for byte in "नद".encode()[:5]])
@example(ids=[byte + 3 for byte in b" a"])
@example(ids=[byte + 3 for byte in b"  \xe0"])
def test_broken_bytes_are_decoded_as_sentencepiece_does_and_streamed_alike(ids: list[int]) -> None:
    theirs, ours = both("bpe")
    assert ours.decode(ids) == theirs.decode(ids)
    stream = Detokeniser(ours)
    assert "".join([*map(stream.push, ids), stream.flush()]) == ours.decode(ids)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "bpe, no dummy prefix, symbols"])
def test_what_it_writes_comes_back(kind: str) -> None:
    _, ours = both(kind)
    for text in [*SENTENCES, " x", "", "語\x00 ок"]:
        assert ours.decode(ours.encode(text)) == text


def test_the_models_own_names_stand_in_for_a_missing_configuration(folder: Path) -> None:
    ours = Tokenizer.load(folder)
    assert {key: ours.named_id(key) for key in ("unk_token", "bos_token", "eos_token", "pad_token")} == {
        "unk_token": 0,
        "bos_token": 1,
        "eos_token": 2,
        "pad_token": None,
    }
    assert ours.begin_ids == (1,)
    assert ours.encode("dom", begin=True) == [1, *ours.encode("dom")]


def test_the_written_folder_is_read_alike_by_transformers(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None}
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True, "chat_template": "x", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    ours = Tokenizer.load(folder)
    ours.save(tmp_path / "written")
    again = Tokenizer.load(tmp_path / "written")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "written")
    assert again.hash == ours.hash
    assert theirs.chat_template == "x"
    for text in [*SENTENCES, "  x  y", "", "</s>"[:3]]:
        assert theirs(text)["input_ids"] == ours.encode(text, begin=True) == again.encode(text, begin=True)


def test_no_begin_token_is_put_where_the_configuration_says_so(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False}))
    assert Tokenizer.load(folder).begin_ids == ()


def test_added_tokens_keep_their_ids(folder: Path) -> None:
    size = both("bpe")[0].vocab_size()
    (folder / "added_tokens.json").write_text(json.dumps({"<|im_end|>": size + 1, "<|im_start|>": size}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"additional_special_tokens": ["<|im_end|>", "<|im_start|>"]})
    )
    ours = Tokenizer.load(folder)
    assert ours.token_id("<|im_end|>") == size + 1
    assert size + 1 not in ours.encode("<|im_end|>")
    assert ours.encode("<|im_end|>", special=True) == [size + 1]
    (folder / "added_tokens.json").write_text(json.dumps({"<|im_end|>": size + 7}))
    with pytest.raises(UserError, match=f"declared with id {size + 7}, but has id {size}"):
        Tokenizer.load(folder)


def edited(change: Callable[[Any], None], kind: str = "bpe") -> bytes:
    proto: Any = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(train(kind))
    change(proto)
    return proto.SerializeToString()


def _unused(proto: Any) -> None:
    proto.pieces[-1].type = 5


def _no_character(proto: Any) -> None:
    proto.pieces[300].piece = "a☃"


def _suffix(proto: Any) -> None:
    proto.trainer_spec.treat_whitespace_as_suffix = True


def _twice(proto: Any) -> None:
    proto.pieces[-1].piece = proto.pieces[-2].piece


def _word(proto: Any) -> None:
    proto.trainer_spec.model_type = 3


def _symbol(proto: Any) -> None:
    proto.pieces[-1].type = 4


REFUSED = {
    "its normaliser": (
        lambda: train_with(model_type="bpe", vocab_size=300, normalization_rule_name="nmt_nfkc"),
        "nmt_nfkc",
    ),
    "unused pieces": (lambda: edited(_unused), "UNUSED"),
    "a piece of unknown characters": (lambda: edited(_no_character), "without a piece '☃'"),
    "blanks as suffix": (lambda: edited(_suffix), "treat_whitespace_as_suffix"),
    "a piece twice": (lambda: edited(_twice), "occurs twice"),
    "another algorithm": (lambda: edited(_word), "model_type 3"),
    "a symbol beside a dummy prefix": (lambda: edited(_symbol), "user-defined symbol"),
    "no SentencePiece at all": (lambda: b"version https://git-lfs", "not a SentencePiece model"),
    "an empty one": (lambda: b"", "no pieces"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_carried_over_is_refused_by_name(tmp_path: Path, what: str) -> None:
    model, reason = REFUSED[what]
    (tmp_path / "tokenizer.model").write_bytes(model())
    with pytest.raises(UserError, match=reason) as refused:
        Tokenizer.load(tmp_path)
    assert refused.value.where == str(tmp_path / "tokenizer.model")
