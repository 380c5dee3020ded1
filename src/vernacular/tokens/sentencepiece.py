"""A SentencePiece model as a `tokenizer.json`, with the same ids for every text.

BPE and Unigram models with the identity normaliser (Llama's, Mistral's, Bielik's) are carried over exactly; what the
tokenizers library cannot do as SentencePiece does it is refused by the name it has in the model.
Source: google/sentencepiece, `sentencepiece_model.proto`, `bpe_model.cc`, `unigram_model.cc`, `normalizer.cc`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, processors

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json_object
from vernacular.tokens.tokenizer_files import (
    ADDED_FILE,
    CONFIG_FILE,
    MAP_FILE,
    SENTENCEPIECE_FILE,
    TOKENIZER_FILE,
    folder_settings,
    named_tokens,
    special_names,
)

BLANK = "▁"
UNIGRAM, BPE = 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_ALL_BLANKS = 1 << 30


def converted_contents(folder: Path) -> dict[str, bytes]:
    """The tokenizer files that stand for a folder's `tokenizer.model`, by name.

    `tokenizer_config.json` is taken as it is, but for the special tokens that only the model names. Where it does not
    say whether a begin token is put first (`add_bos_token`), one is, as transformers does for these models.
    """
    proto = _read_model(folder / SENTENCEPIECE_FILE)
    settings = folder_settings(folder)
    names = {**_names_of(proto), **settings}
    begin = special_names(names).get("bos_token") if names.get("add_bos_token", True) else None
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **_without_class(names)}
    engine = convert(proto, folder / SENTENCEPIECE_FILE)
    if (folder / ADDED_FILE).is_file():
        _add(engine, read_json_object(folder / ADDED_FILE), settings, folder / ADDED_FILE)
    if begin is not None:
        engine.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, engine.token_to_id(begin))]
        )
    contents = {
        TOKENIZER_FILE: engine.to_str(pretty=False).encode("utf-8"),
        CONFIG_FILE: json.dumps(config, ensure_ascii=False, indent=2).encode("utf-8"),
    }
    if (folder / MAP_FILE).is_file():
        contents[MAP_FILE] = (folder / MAP_FILE).read_bytes()
    return contents


def _add(engine: tokenizers.Tokenizer, added: Mapping[str, int], settings: Mapping[str, Any], where: Path) -> None:
    """Add the tokens of `added_tokens.json`; those that the settings name are special."""
    special = {token.content for _, token in named_tokens(settings)}
    for text in sorted(added, key=added.__getitem__):
        engine.add_tokens([AddedToken(text, special=text in special, normalized=False)])
        if engine.token_to_id(text) != added[text]:
            raise UserError(
                f"the token '{text}' is declared with id {added[text]}, but has id {engine.token_to_id(text)}",
                where=where,
                fix=f"take {ADDED_FILE} and {SENTENCEPIECE_FILE} of the same release",
            )


def convert(proto: Any, where: Path) -> tokenizers.Tokenizer:
    """The model as an engine of the tokenizers library.

    Args:
        proto: the parsed `ModelProto`.
        where: the model's file, for errors.
    """
    _check(proto, where)
    is_bpe = proto.trainer_spec.model_type == BPE
    engine = tokenizers.Tokenizer(_bpe(proto, where) if is_bpe else _unigram(proto, where))
    rules = proto.normalizer_spec
    engine.normalizer = normaliser(rules)
    decoding = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if rules.add_dummy_prefix or rules.remove_extra_whitespaces:
        decoding.append(decoders.Strip(" ", _ALL_BLANKS if rules.remove_extra_whitespaces else 1, 0))
    engine.decoder = decoders.Sequence(decoding)
    pieces = [(piece.piece, piece.type) for piece in proto.pieces]
    engine.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text, kind in pieces if kind in (CONTROL, UNKNOWN)]
    )
    engine.add_tokens([AddedToken(text, normalized=False) for text, kind in pieces if kind == USER_DEFINED])
    return engine


def _read_model(path: Path) -> Any:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2  # slow to import, and seldom needed

    messages: Any = sentencepiece_model_pb2
    proto = messages.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise UserError("not a SentencePiece model", where=path, fix="fetch the file again") from error
    if not proto.pieces:
        raise UserError("the SentencePiece model has no pieces", where=path, fix="fetch the file again")
    return proto


def _names_of(proto: Any) -> dict[str, str]:
    """The special tokens that the model names itself."""
    named = {"bos_token": "bos_id", "eos_token": "eos_id", "unk_token": "unk_id", "pad_token": "pad_id"}
    ids = {key: getattr(proto.trainer_spec, field) for key, field in named.items()}
    return {key: proto.pieces[token_id].piece for key, token_id in ids.items() if 0 <= token_id < len(proto.pieces)}


def _without_class(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the class, which would make transformers build the tokenizer in a way of its own."""
    return {key: value for key, value in settings.items() if key not in ("tokenizer_class", "auto_map", "legacy")}


# ---------------------------------------------------------------------------------------------- what is refused


def _check(proto: Any, where: Path) -> None:
    rules, trained = proto.normalizer_spec, proto.trainer_spec
    kinds = {piece.type for piece in proto.pieces}
    texts = {piece.piece for piece in proto.pieces}
    user_defined = [piece.piece for piece in proto.pieces if piece.type == USER_DEFINED]
    if trained.model_type not in (BPE, UNIGRAM):
        _refuse(where, f"model_type {trained.model_type}", "only BPE (2) and Unigram (1) models can be carried over")
    if rules.precompiled_charsmap:
        _refuse(where, f"normalizer_spec.name '{rules.name}'", "only the normaliser `identity` can be")
    if not rules.escape_whitespaces:
        _refuse(where, "normalizer_spec.escape_whitespaces false", "blanks must be written as ▁")
    if trained.treat_whitespace_as_suffix:
        _refuse(where, "trainer_spec.treat_whitespace_as_suffix", "blanks must stand before a word")
    if len(texts) != len(proto.pieces):
        _refuse(where, "a piece that occurs twice", "every piece must be there once")
    if UNUSED in kinds:
        _refuse(where, "pieces of type UNUSED", "every piece must be in use")
    if trained.byte_fallback and sum(piece.type == BYTE for piece in proto.pieces) != 256:
        _refuse(where, "byte_fallback without all 256 byte pieces", "all of them must be there")
    if user_defined and (
        rules.add_dummy_prefix
        or rules.remove_extra_whitespaces
        or any(BLANK in text or " " in text for text in user_defined)
        or trained.model_type == UNIGRAM
    ):
        _refuse(
            where,
            f"the user-defined symbol '{user_defined[0]}'",
            "it can only be in a BPE model without dummy prefix and without removal of blanks, itself without a blank",
        )


def _refuse(where: Path, what: str, rule: str) -> NoReturn:
    raise UserError(
        f"the SentencePiece model cannot be carried over exactly: {what}; {rule}",
        where=where,
        fix=f"use a release of the model that has a {TOKENIZER_FILE}",
    )


# ---------------------------------------------------------------------------------------------- the two algorithms


def normaliser(rules: Any) -> normalizers.Normalizer:
    """What is done to a text before it is cut, by the flags of a `NormalizerSpec`."""
    return normalizers.Sequence(list(_normalisers(rules)))


def _normalisers(rules: Any) -> Iterator[normalizers.Normalizer]:
    if rules.remove_extra_whitespaces:
        yield normalizers.Replace(Regex("\\A +"), "")
        yield normalizers.Replace(Regex(" {2,}"), " ")
    yield normalizers.Replace(" ", BLANK)
    if rules.remove_extra_whitespaces:
        yield normalizers.Replace(Regex(f"{BLANK}+\\z"), "")
    if rules.add_dummy_prefix:
        yield normalizers.Prepend(BLANK)


def _bpe(proto: Any, where: Path) -> models.BPE:
    """Merges in the order of the scores of what they make, as SentencePiece joins the best-scored pair first."""
    vocabulary = {piece.piece: token_id for token_id, piece in enumerate(proto.pieces)}
    score_of = {piece.piece: piece.score for piece in proto.pieces if piece.type in (NORMAL, USER_DEFINED)}
    _check_characters([piece.piece for piece in proto.pieces if piece.type == NORMAL], score_of, where)
    merges = [
        (-score_of[text], len(text[:cut]), (text[:cut], text[cut:]))
        for piece in proto.pieces
        if piece.type == NORMAL
        for text in [piece.piece]
        for cut in range(1, len(text))
        if text[:cut] in score_of and text[cut:] in score_of
    ]
    return models.BPE(
        vocabulary,
        [pair for _, _, pair in sorted(merges)],
        unk_token=_unknown(proto),
        fuse_unk=True,
        byte_fallback=proto.trainer_spec.byte_fallback,
    )


def _unigram(proto: Any, where: Path) -> models.Unigram:
    """Scores as they are; those of byte and control pieces so low that no text is ever read as one.

    Unlike SentencePiece, the library would take the letters `<s>` or `<0x41>` in a text for such a piece. A score below
    that of the piece's letters one by one keeps it from that.
    """
    score_of = {piece.piece: piece.score for piece in proto.pieces if piece.type == NORMAL}
    _check_characters(list(score_of), score_of, where)
    lowest = min(0.0, *score_of.values())
    reserved = [piece.piece for piece in proto.pieces if piece.type in (CONTROL, BYTE, UNKNOWN)]
    for text in reserved:
        unread = [character for character in text if character not in score_of]
        if unread:
            _refuse(where, f"the Unigram piece '{text}' without a piece '{unread[0]}'", "its letters must be pieces")
    scores = [
        (piece.piece, piece.score if piece.type == NORMAL else len(piece.piece) * lowest - 1) for piece in proto.pieces
    ]
    return models.Unigram(scores, proto.trainer_spec.unk_id, proto.trainer_spec.byte_fallback)


def _check_characters(texts: Sequence[str], pieces: Mapping[str, float], where: Path) -> None:
    for text in texts:
        for character in text:
            if character not in pieces:
                _refuse(where, f"the piece '{text}' without a piece '{character}'", "every character must be a piece")


def _unknown(proto: Any) -> str | None:
    unknown = proto.trainer_spec.unk_id
    return proto.pieces[unknown].piece if 0 <= unknown < len(proto.pieces) else None
