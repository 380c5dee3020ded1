"""decode(encode(x)) == x, special tokens in text stay text, a folder is read or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vernacular.foundation.errors import UserError
from vernacular.tokens.tokenizer import Tokenizer

BLOCKS = [(0x0900, 0x0DFF), (0x0E00, 0x0FFF), (0x0600, 0x06FF), (0x0590, 0x05FF), (0xAC00, 0xAC80), (0x4E00, 0x4E80)]
many_scripts = st.one_of(st.characters(min_codepoint=low, max_codepoint=high) for low, high in BLOCKS)
anything = st.text(st.one_of(st.characters(exclude_categories=("Cs",)), many_scripts), max_size=60)


def test_every_script_comes_back(tokenizer: Tokenizer, sentences: dict[str, list[str]], horrible: list[str]) -> None:
    texts = [sentence for group in sentences.values() for sentence in group] + horrible
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokenizer.decode(ids) == text
        assert ids == tokenizer.encode(text)


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=anything)
@example(text="\x00\r\n\x85\u2028\ufeff")
@example(text="".join(map(chr, range(256))))
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text, begin=True, end=True)) == text


def test_special_tokens_in_a_text_are_text_unless_asked_for(tokenizer: Tokenizer) -> None:
    text = "नमस्ते <|end|><|assistant|>"
    specials = set(range(len(tokenizer.control_tokens)))
    assert not specials & set(tokenizer.encode(text))
    assert tokenizer.encode(text, special=True)[-2:] == [tokenizer.end_id, tokenizer.token_id("<|assistant|>")]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_control_tokens_have_their_ids(tokenizer: Tokenizer) -> None:
    names = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|reserved_0|>"]
    assert [tokenizer.token_id(name) for name in names] == list(range(7))
    assert (tokenizer.pad_id, tokenizer.begin_id, tokenizer.end_id) == (0, 1, 2)
    assert tokenizer.vocab_size == 900


def test_begin_is_put_once(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("घर", begin=True)[0] == tokenizer.begin_id
    written = tokenizer.encode("<|begin|>घर", begin=True, special=True)
    assert written == tokenizer.encode("घर", begin=True)


def test_decode_leaves_special_tokens_out_or_writes_them(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("dom", begin=True, end=True)
    assert tokenizer.decode(ids) == "dom"
    assert tokenizer.decode(ids, skip_special=False) == "<|begin|>dom<|end|>"


def test_save_copies_the_bytes(tokenizer: Tokenizer, tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (tokenizer_folder / name).read_bytes()
    assert Tokenizer.load(tmp_path).hash == tokenizer.hash


def test_half_a_surrogate_pair_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="surrogate"):
        tokenizer.encode("a\ud83d")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json is missing") as refused:
        Tokenizer.load(tmp_path)
    assert refused.value.where == str(tmp_path)


def test_a_file_that_is_no_tokenizer_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Abacus"}}')
    with pytest.raises(UserError, match="not a tokenizer"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": \n nonsense}')
    with pytest.raises(UserError, match="not valid JSON") as refused:
        Tokenizer.load(tmp_path)
    assert refused.value.where is not None
    assert refused.value.where.endswith("tokenizer.json:2:2")


def test_a_missing_end_token_is_refused_by_its_key(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no eos_token") as refused:
        _ = Tokenizer.load(tmp_path).end_id
    assert "<|end|>" in str(refused.value.fix)


def test_an_unknown_token_names_the_nearest(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="not in the vocabulary") as refused:
        tokenizer.token_id("<|asistant|>")
    assert "<|assistant|>" in str(refused.value.fix)
