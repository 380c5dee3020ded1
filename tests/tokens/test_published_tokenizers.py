"""Tokenizer folders in the shapes in which models publish them: the ids, texts and prompts of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from published_folders import (
    begin_first,
    config_says_otherwise,
    granite,
    krutrim_2,
    llama,
    mistral,
    no_begin,
    special,
    write_folder,
)
from vernacular.foundation.errors import UserError
from vernacular.inference.encoding import encode_pairs, encode_prompts
from vernacular.tokens.tokenizer import Tokenizer as OurTokenizer

transformers = pytest.importorskip("transformers")

TEXTS = [
    "नदी के किनारे बच्चे पतंग उड़ाते हैं।",
    "Zażółć gęślą jaźń – 2024 r., powiedział źrebak.",
    "தமிழ்\n\n  மொழி\tமிகவும் 👍🏽",
    "It's  a test , isn't it ?",
    "می‌خواهم نامه‌ای بنویسم",
    "語 ﬁ e\u0301 \u0000",
    "x",
]
BLANKS_FIRST = ["  dwa", " ", ""]


SHAPES = (granite, krutrim_2, mistral, llama, no_begin, config_says_otherwise)
FIRST = {"krutrim_2": "<s>", "mistral": "<s>", "llama": "<s>", "config_says_otherwise": "<s>"}


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: shape.__name__)
def shape(request: pytest.FixtureRequest, sentences: dict[str, list[str]], tmp_path_factory: Any) -> SimpleNamespace:
    texts = [sentence for group in sentences.values() for sentence in group] * 3
    name = request.param.__name__
    folder = write_folder(tmp_path_factory.mktemp(name), request.param(texts))
    # transformers 5 builds a LlamaTokenizer anew and then takes "  x" for " x", which tokenizer.json does not say.
    reader = transformers.PreTrainedTokenizerFast if name == "mistral" else transformers.AutoTokenizer
    theirs = reader.from_pretrained(folder)
    return SimpleNamespace(name=name, folder=folder, ours=OurTokenizer.load(folder), theirs=theirs)


def test_transformers_gives_the_same_ids_and_texts(shape: SimpleNamespace, sentences: dict[str, list[str]]) -> None:
    texts = [*TEXTS, *BLANKS_FIRST, *(sentence for group in sentences.values() for sentence in group)]
    for text in texts:
        assert shape.theirs(text)["input_ids"] == shape.ours.encode(text, begin=True), text
        plain = shape.theirs(text, add_special_tokens=False)["input_ids"]
        assert plain == shape.ours.encode(text), text
        assert shape.theirs.decode(plain) == shape.ours.decode(plain)


def test_transformers_own_mistral_class_agrees_but_for_blanks_at_the_beginning(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, mistral(TEXTS * 3))
    ours, theirs = OurTokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert theirs(text)["input_ids"] == ours.encode(text, begin=True)


def test_granites_single_digits_beside_its_weights(tmp_path: Path) -> None:
    contents = granite(TEXTS * 3)
    engine = Tokenizer.from_str(json.dumps(contents["tokenizer.json"]))
    digits, rest = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])
    contents |= {"tokenizer.json": json.loads(engine.to_str()), "config.json": {"model_type": "granitemoe"}}
    folder = write_folder(tmp_path, contents)
    ours, theirs = OurTokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for text in [*TEXTS, *BLANKS_FIRST, "12345 २०२४"]:
        assert theirs(text)["input_ids"] == ours.encode(text, begin=True)


def test_what_they_write_comes_back(shape: SimpleNamespace, sentences: dict[str, list[str]]) -> None:
    for text in [*TEXTS, *(sentence for group in sentences.values() for sentence in group)]:
        assert shape.ours.decode(shape.ours.encode(text)) == text
        assert shape.ours.decode(shape.ours.encode(text, begin=True, end=True)) == text


def test_named_tokens(shape: SimpleNamespace) -> None:
    ours, theirs = shape.ours, shape.theirs
    for key in ("bos_token", "eos_token", "pad_token"):
        assert ours.named_id(key) == getattr(theirs, f"{key}_id"), key
    assert len(theirs) == ours.vocab_size
    assert ours.begin_ids == ((ours.token_id(FIRST[shape.name]),) if shape.name in FIRST else ())
    assert ours.begin_id == (theirs.bos_token_id if theirs.bos_token_id is not None else theirs.eos_token_id)
    assert set(ours.control_tokens) == {t.content for t in theirs.added_tokens_decoder.values() if t.special}


def test_special_tokens_in_a_text_are_text_unless_asked_for(shape: SimpleNamespace) -> None:
    text = "".join(f"a{token} b {token}" for token in [*shape.ours.control_tokens][:40])
    unknown = shape.ours.special_names.get("unk_token")
    controls = {token.id for token in shape.ours.control_tokens.values() if token.text != unknown}
    plain = shape.ours.encode(text)
    assert not controls & set(plain)
    assert shape.ours.decode(plain) == text
    assert shape.theirs(text, add_special_tokens=False)["input_ids"] == shape.ours.encode(text, special=True)


PAIRS = [
    ("Która rzeka?", " Wisła"),
    ("नदी  ", "गंगा है"),
    ("", "தமிழ் மொழி"),
    ("A: 12 \n", "34"),
    ("x", "y"),
]


def harness(theirs: Any) -> Any:
    """The harness's Hugging Face path as far as it encodes, without a model."""
    lm_eval = pytest.importorskip("lm_eval.models.huggingface")
    lm = object.__new__(lm_eval.HFLM)
    vars(lm).update(
        tokenizer=theirs, backend="causal", add_bos_token=None, custom_prefix_token_id=None, enable_thinking=None
    )
    lm._loglikelihood_tokens = lambda requests, **_: [(context, rest) for _, context, rest in requests]
    return lm


def test_the_harness_encodes_prompts_and_pairs_alike(shape: SimpleNamespace) -> None:
    lm = harness(shape.theirs)
    ours = [(list(pair.context), list(pair.continuation)) for pair in encode_pairs(shape.ours, PAIRS)]
    assert ours == lm.loglikelihood([SimpleNamespace(args=pair) for pair in PAIRS], disable_tqdm=True)
    opening = shape.ours.begin_token
    rendered = [f"{opening}dom", f"{opening} {shape.ours.end_token}x", f"{shape.ours.end_token}y"]
    prompts = [context for context, _ in PAIRS if context] + rendered
    assert encode_prompts(shape.ours, prompts) == [lm.tok_encode(prompt) for prompt in prompts]
    alone = [("", f"{opening}dom")]
    ((context, rest),) = lm.loglikelihood([SimpleNamespace(args=alone[0])], disable_tqdm=True)
    assert [(list(pair.context), list(pair.continuation)) for pair in encode_pairs(shape.ours, alone)] == [
        (context, rest)
    ]


def test_a_context_of_blanks_counts_as_none(shape: SimpleNamespace) -> None:
    (pair,) = encode_pairs(shape.ours, [("  ", "dom")])
    assert pair.context == (shape.ours.begin_id,)
    assert list(pair.continuation) == shape.ours.encode("  dom")


def test_save_copies_the_bytes(shape: SimpleNamespace, tmp_path: Path) -> None:
    shape.ours.save(tmp_path)
    for path in shape.folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_parts_are_encoded_as_in_the_whole(shape: SimpleNamespace) -> None:
    """A text after a control token, and one that goes on after another, without a blank of its own."""
    ours = shape.ours
    end = ours.end_id
    first, second, third = ours.encode_parts(["dom", "[INST] ogród", " źrebak"], ["nothing", "control", "text"])
    whole = ours.encode(f"dom{ours.end_token}[INST] ogród źrebak", special=True)
    assert [*first, end, *second, *third] == whole


# ---------------------------------------------------------------------------------------------- what is refused


def test_a_token_with_another_id_than_declared_is_refused(tmp_path: Path) -> None:
    contents = no_begin(TEXTS)
    contents["tokenizer_config.json"]["added_tokens_decoder"] = {"5000": special("<|im_start|>", special=True)}
    with pytest.raises(UserError, match=r"'<\|im_start\|>' is declared with id 5000, but has id"):
        OurTokenizer.load(write_folder(tmp_path, contents))


def test_a_named_token_outside_the_vocabulary_is_refused(tmp_path: Path) -> None:
    contents = no_begin(TEXTS)
    contents["tokenizer_config.json"]["pad_token"] = "[PAD]"
    with pytest.raises(UserError, match=r"the pad_token '\[PAD\]' is not in the vocabulary") as refused:
        OurTokenizer.load(write_folder(tmp_path, contents))
    assert "pad_token" in str(refused.value.where)


@pytest.mark.parametrize("kind", ["merges", "ignore_merges", "unigram"])
def test_no_text_is_read_as_a_control_token_though_its_letters_merge_to_it(tmp_path: Path, kind: str) -> None:
    letters = ["<", "e", ">", "▁", "d", "o", "m"]
    if kind == "unigram":
        engine = Tokenizer(models.Unigram([("<unk>", 0.0), ("<e>", 0.0), *((letter, -2.0) for letter in letters)], 0))
    else:
        vocabulary = {token: number for number, token in enumerate(["<unk>", "<e>", *letters, "<e", "do"])}
        merges = [("<", "e"), ("<e", ">"), ("d", "o")] if kind == "merges" else [("d", "o")]
        engine = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=kind == "ignore_merges"))
        engine.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "isolated")
    engine.add_special_tokens([AddedToken("<e>", special=True)])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<e>", "unk_token": "<unk>"}
    contents = {"tokenizer.json": json.loads(engine.to_str()), "tokenizer_config.json": config}
    tokenizer = OurTokenizer.load(write_folder(tmp_path, contents))
    assert tokenizer.end_id == 1
    assert 1 not in tokenizer.encode("dom<e>dom <e>")
    assert tokenizer.encode("dom<e>dom <e>", special=True).count(1) == 2
    assert tokenizer.encode("dom") == engine.encode("dom").ids


def test_a_vocabulary_of_131072(tmp_path: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<unk>", "<s>", "</s>"]
    pairs = [(left, right) for left in alphabet for right in alphabet]
    merged = [left + right for left, right in pairs]
    more = [(token, alphabet[65]) for token in merged] + [(token, alphabet[66]) for token in merged]
    merges = [*pairs, *more][: 131072 - len(specials) - len(alphabet)]
    tokens = [*specials, *alphabet, *(left + right for left, right in merges)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    fill = iter(f"<filler {number}>" for number in range(131072))
    while len(vocabulary) < 131072:
        vocabulary[next(fill)] = len(vocabulary)
    engine = begin_first(Tokenizer(models.BPE(vocabulary, merges)), "<s>")
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    engine.add_special_tokens(specials)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True, **names}
    folder = write_folder(tmp_path, {"tokenizer.json": json.loads(engine.to_str()), "tokenizer_config.json": config})
    ours, theirs = OurTokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(folder)
    assert ours.vocab_size == 131072
    for text in TEXTS:
        assert theirs(text)["input_ids"] == ours.encode(text, begin=True)
        assert ours.decode(ours.encode(text)) == text
