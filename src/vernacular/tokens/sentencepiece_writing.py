"""A tokenizer as a SentencePiece `.model`: what reads it back gets the same tokenizer, or nothing is written.

Source: google/sentencepiece, `sentencepiece_model.proto`; what each field does is in `tokens.sentencepiece`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import tokenizers
from tokenizers import normalizers

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import write_bytes
from vernacular.tokens.byte_pairs import merge_scores
from vernacular.tokens.sentencepiece import (
    BPE,
    BYTE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    USER_DEFINED,
    convert,
    normaliser,
)
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.tokenizer_files import TOKENIZER_FILE, build_engine, read_contents, read_settings

_NAMES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unk", "pad_token": "pad"}
_KINDS = {"BPE": BPE, "Unigram": UNIGRAM}
# As Hugging Face has long written Llama's normaliser; the same texts come out.
_PREPEND_FIRST = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
# The tokenizers library reads a number of `tokenizer.json` with a last digit of double precision more or less.
_PARSED = 1e-14
_WRONG_WRITING = "train one with `writing: sentencepiece`; its ids can be said in both forms"


class Written(NamedTuple):
    """What was written: the algorithm ("BPE" or "Unigram"), and how many pieces."""

    algorithm: str
    num_pieces: int


def write_model(source: Path, out: Path, *, force: bool = False) -> Written:
    """Write a folder's tokenizer as a SentencePiece model.

    Args:
        source: a tokenizer folder, or one of weights.
        out: the file; appears when it is whole.
        force: replace the file where it exists.

    Raises:
        UserError: SentencePiece cannot say what the tokenizer does; or the file exists.
    """
    if out.is_dir() or (out.exists() and not force):
        raise UserError("the output exists already", where=out, fix="choose another file, or replace it with --force")
    contents = read_contents(source)
    settings = read_settings(contents)
    engine = build_engine(contents, settings, str(source))
    proto = _proto_of(engine, Tokenizer(contents, where=source).special_names, source / TOKENIZER_FILE)
    write_bytes(out, proto.SerializeToString(deterministic=True))
    return Written("BPE" if proto.trainer_spec.model_type == BPE else "Unigram", len(proto.pieces))


def model_proto(
    algorithm: int,
    pieces: Sequence[tuple[str, float, int]],
    names: Mapping[str, str],
    *,
    adds_blank: bool = False,
    removes_blanks: bool = False,
    byte_fallback: bool = True,
) -> Any:
    """A `ModelProto` of the identity normaliser.

    Args:
        algorithm: `BPE` or `UNIGRAM`.
        pieces: text, score and type of each id.
        names: `bos_token`, `eos_token`, `pad_token`, `unk_token`: the pieces that they are.
        adds_blank: a blank is put before every text.
        removes_blanks: of several blanks one stays, of those at the ends none.
        byte_fallback: characters that are no pieces are written in bytes.
    """
    from sentencepiece import sentencepiece_model_pb2  # slow to import, and seldom needed

    messages: Any = sentencepiece_model_pb2
    proto = messages.ModelProto()
    for text, score, kind in pieces:
        proto.pieces.add(piece=text, score=score, type=kind)
    trained, rules = proto.trainer_spec, proto.normalizer_spec
    trained.model_type, trained.vocab_size, trained.byte_fallback = algorithm, len(pieces), byte_fallback
    ids = {text: number for number, (text, _, _) in enumerate(pieces)}
    for key, short in _NAMES.items():
        setattr(trained, f"{short}_id", ids.get(names.get(key, ""), -1))
        if key in names:
            setattr(trained, f"{short}_piece", names[key])
    rules.name, rules.escape_whitespaces = "identity", True
    rules.add_dummy_prefix, rules.remove_extra_whitespaces = adds_blank, removes_blanks
    return proto


# ---------------------------------------------------------------------------------------------------------- within


def _proto_of(engine: tokenizers.Tokenizer, special_names: Mapping[str, str], where: Path) -> Any:
    description: dict[str, Any] = json.loads(engine.to_str())
    model = description["model"]
    _check_kind(description, where)
    unknown = _unknown(engine, model)
    if unknown is None:
        _refuse(where, "it has no unknown token, which SentencePiece must have", "name one as unk_token")
    adds_blank, removes_blanks = _blanks(description["normalizer"], where)
    pieces = _pieces(engine, model, unknown, where)
    kept = {key: text for key, text in special_names.items() if key in _NAMES}
    proto = model_proto(
        _KINDS[model["type"]],
        pieces,
        {**kept, "unk_token": unknown},
        adds_blank=adds_blank,
        removes_blanks=removes_blanks,
        byte_fallback=model["byte_fallback"],
    )
    _check_read_back(description, json.loads(convert(proto, where).to_str()), where)
    return proto


def _check_kind(description: Mapping[str, Any], where: Path) -> None:
    """Refuse what SentencePiece has no words for, by the name it has in `tokenizer.json`."""
    model, cuts = description["model"], description["pre_tokenizer"]
    if '"ByteLevel"' in json.dumps([cuts, description["decoder"]]):
        _refuse(where, "its pieces are bytes (ByteLevel), SentencePiece's are characters", _WRONG_WRITING)
    if model["type"] not in _KINDS:
        _refuse(where, f"model {model['type']}; SentencePiece has BPE and Unigram", _WRONG_WRITING)
    if cuts is not None:
        _refuse(where, f"pre_tokenizer {cuts['type']}; SentencePiece cuts no text beforehand", _WRONG_WRITING)
    expected = {"dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "ignore_merges": False}
    for key, value in expected.items():
        if model["type"] == "BPE" and model.get(key) != value and model.get(key) not in ("", None):
            _refuse(where, f"model.{key} {model[key]}; SentencePiece has no such setting", _WRONG_WRITING)


def _unknown(engine: tokenizers.Tokenizer, model: Mapping[str, Any]) -> str | None:
    if model["type"] == "BPE":
        return model["unk_token"]
    return None if model["unk_id"] is None else engine.id_to_token(model["unk_id"])


def _blanks(normalizer: Any, where: Path) -> tuple[bool, bool]:
    """Whether a blank is put before a text, and whether surplus ones are removed."""
    if normalizer == _described(_PREPEND_FIRST):
        return True, False
    for adds, removes in product((False, True), repeat=2):
        rules = SimpleNamespace(add_dummy_prefix=adds, remove_extra_whitespaces=removes)
        if normalizer == _described(normaliser(rules)):
            return adds, removes
    name = "null" if normalizer is None else normalizer["type"]
    _refuse(where, f"normalizer {name} is none of those that write a blank as ▁ and nothing else", _WRONG_WRITING)


def _described(part: normalizers.Normalizer) -> Any:
    engine = tokenizers.Tokenizer(tokenizers.models.BPE())
    engine.normalizer = part
    return json.loads(engine.to_str())["normalizer"]


def _pieces(
    engine: tokenizers.Tokenizer, model: Mapping[str, Any], unknown: str, where: Path
) -> list[tuple[str, float, int]]:
    ids = engine.get_vocab(with_added_tokens=True)
    texts = {token_id: text for text, token_id in ids.items()}
    size = max(texts) + 1
    if missing := next((token_id for token_id in range(size) if token_id not in texts), None):
        _refuse(where, f"the id {missing} stands for no token", "give every id a token")
    ordered = [texts[token_id] for token_id in range(size)]
    if model["type"] == "BPE":
        scores = merge_scores(ordered, [tuple(merge) for merge in model["merges"]])
    else:
        scores = [score for _, score in model["vocab"]] + [0.0] * (size - len(model["vocab"]))
    added = engine.get_added_tokens_decoder()
    written_bytes = {f"<0x{byte:02X}>" for byte in range(256)} if model["byte_fallback"] else set()

    def kind(text: str, token_id: int) -> int:
        if text == unknown:
            return UNKNOWN
        if token_id in added:
            return CONTROL if added[token_id].special else USER_DEFINED
        return BYTE if text in written_bytes else NORMAL

    kinds = [kind(text, token_id) for token_id, text in enumerate(ordered)]
    # What is never weighed against other pieces has no score.
    weighed = [score if one in (NORMAL, USER_DEFINED) else 0.0 for score, one in zip(scores, kinds, strict=True)]
    return list(zip(ordered, weighed, kinds, strict=True))


def _check_read_back(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: Path) -> None:
    """Refuse a model that would not be read back as what it was made of."""
    if _tokens(ours) != _tokens(theirs):
        _refuse(where, "its special tokens would be read otherwise", "make lstrip, rstrip and normalized false")
    if ours["decoder"] != theirs["decoder"]:
        _refuse(where, "its decoder is not SentencePiece's", _WRONG_WRITING)
    model, other = ours["model"], theirs["model"]
    if model["type"] == "Unigram":
        for (text, score), (_, read_score) in zip(model["vocab"], other["vocab"], strict=False):
            if not math.isclose(score, read_score, rel_tol=_PARSED):
                what = f"the piece '{text}' scores {score}, and SentencePiece keeps {read_score}"
                _refuse(where, what, "round the scores to single precision")
        return
    for piece, read in zip(_joined(model), _joined(other), strict=False):
        if piece != read:
            what = f"the piece '{piece[0]}' is joined from {len(piece[1])} of its pairs; SentencePiece joins any pair"
            _refuse(where, what, "export the tokenizer that it was before it was extended")
    if len(_joined(model)) != len(_joined(other)):
        _refuse(where, "it has pieces that no merge makes, which SentencePiece would make", _WRONG_WRITING)


def _tokens(description: Mapping[str, Any]) -> dict[str, Any]:
    """Every token's id, and the added ones with their flags."""
    model = description["model"]
    vocabulary = model["vocab"]
    ids = vocabulary if model["type"] == "BPE" else {text: place for place, (text, _) in enumerate(vocabulary)}
    return {**ids, **{token["content"]: token for token in description["added_tokens"]}}


def _joined(model: Mapping[str, Any]) -> list[tuple[str, frozenset[tuple[str, ...]]]]:
    """Each piece that merges make, in their order, and the pairs that it is made of."""
    made = groupby(map(tuple, model["merges"]), key="".join)
    return [(text, frozenset(pairs)) for text, pairs in made]


def _refuse(where: Path, what: str, fix: str) -> NoReturn:
    raise UserError(f"SentencePiece cannot say what this tokenizer does: {what}", where=where, fix=fix)
