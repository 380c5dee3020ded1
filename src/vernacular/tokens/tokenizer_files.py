"""The files of a tokenizer folder in Hugging Face layout, in the shapes in which they are published."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json_object

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
MAP_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
SENTENCEPIECE_FILE = "tokenizer.model"
_READ_AS_THEY_ARE = (TOKENIZER_FILE, CONFIG_FILE, MAP_FILE)
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTED = ("additional_special_tokens", "extra_special_tokens")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_contents(folder: Path) -> dict[str, bytes]:
    """Contents by file name of `tokenizer.json`, `tokenizer_config.json` and, if there, `special_tokens_map.json`.

    A folder with a SentencePiece `tokenizer.model` instead of `tokenizer.json` gets one made of it.
    """
    if not (folder / TOKENIZER_FILE).is_file() and (folder / SENTENCEPIECE_FILE).is_file():
        from vernacular.tokens.sentencepiece import converted_contents  # only these folders need the library

        return converted_contents(folder)
    for name in (TOKENIZER_FILE, CONFIG_FILE):
        if not (folder / name).is_file():
            raise UserError(
                f"no tokenizer: {name} is missing",
                where=folder,
                fix="name the folder that a stage `train-tokenizer` wrote, or put the tokenizer's files there",
            )
    present = [name for name in _READ_AS_THEY_ARE if (folder / name).is_file()]
    for name in present:
        if name != TOKENIZER_FILE:  # the engine reads that one, and it may be large
            read_json_object(folder / name)  # refuses what is no JSON object
    return {name: (folder / name).read_bytes() for name in present}


def read_settings(contents: Mapping[str, bytes]) -> dict[str, Any]:
    """The settings of `tokenizer_config.json` and `special_tokens_map.json`.

    Where both name a token, the configuration counts if it declares `added_tokens_decoder`, else the older map.
    """
    settings, named = (json.loads(contents.get(name, b"{}")) for name in (CONFIG_FILE, MAP_FILE))
    return {**named, **settings} if "added_tokens_decoder" in settings else {**settings, **named}


def folder_settings(folder: Path) -> dict[str, Any]:
    """As `read_settings`, of the files that are there."""
    present = [name for name in (CONFIG_FILE, MAP_FILE) if (folder / name).is_file()]
    for name in present:
        read_json_object(folder / name)  # refuses what is no JSON object
    return read_settings({name: (folder / name).read_bytes() for name in present})


def special_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token`, `eos_token`, … as the settings name them: as a text, or as {"content": TEXT, …}."""
    return {
        key: value["content"] if isinstance(value, dict) else value
        for key, value in settings.items()
        if key.endswith("_token") and (isinstance(value, str) or (isinstance(value, dict) and "content" in value))
    }


def build_engine(contents: Mapping[str, bytes], settings: Mapping[str, Any], where: str) -> tokenizers.Tokenizer:
    """The engine of `tokenizer.json`, with the tokens that the settings add to it, as transformers adds them.

    Raises:
        UserError: the file is none of the tokenizers library, or a token would not get the id it is declared with,
            or a named special token is not in the vocabulary.
    """
    try:
        engine = tokenizers.Tokenizer.from_str(contents[TOKENIZER_FILE].decode("utf-8"))
    except Exception as error:  # the tokenizers library raises nothing narrower
        _check_json(contents[TOKENIZER_FILE], where)
        raise UserError(f"not a tokenizer of the tokenizers library: {error}", where=where) from error
    engine.no_truncation()
    engine.no_padding()
    for token_id, token in _declared(settings):
        engine.add_tokens([token])
        if engine.token_to_id(token.content) != token_id:
            raise UserError(
                f"the token '{token.content}' is declared with id {token_id}, but has id"
                f" {engine.token_to_id(token.content)}",
                where=f"{where}/{CONFIG_FILE} (added_tokens_decoder)",
                fix=f"take {TOKENIZER_FILE} and {CONFIG_FILE} of the same release",
            )
    for key, token in named_tokens(settings):
        if key in _NAMED and engine.token_to_id(token.content) is None:
            raise UserError(
                f"the {key} '{token.content}' is not in the vocabulary",
                where=f"{where}/{CONFIG_FILE} ({key})",
                fix=f"set {key} to a token of the vocabulary or to null, or declare its id in added_tokens_decoder",
            )
        if token.content not in {added.content for added in engine.get_added_tokens_decoder().values()}:
            engine.add_special_tokens([token])
    return engine


def _check_json(content: bytes, where: str) -> None:
    try:
        json.loads(content)
    except ValueError as error:
        at = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"not valid JSON: {what}", where=f"{where}/{TOKENIZER_FILE}{at}") from error


def _declared(settings: Mapping[str, Any]) -> Iterator[tuple[int, tokenizers.AddedToken]]:
    declared = settings.get("added_tokens_decoder") or {}
    for token_id in sorted(declared, key=int):
        yield int(token_id), _added_token(declared[token_id], special=False)


def named_tokens(settings: Mapping[str, Any]) -> Iterator[tuple[str, tokenizers.AddedToken]]:
    """The special tokens that the settings name, with the key that names each."""
    for key in _NAMED:
        if isinstance(settings.get(key), str | dict):
            yield key, _added_token(settings[key], special=True)
    for key in _LISTED:
        listed = settings.get(key) or ()
        for token in listed.values() if isinstance(listed, dict) else listed:
            yield key, _added_token(token, special=True)


def _added_token(written: Any, *, special: bool) -> tokenizers.AddedToken:
    """A token written as a text, or as {"content", "lstrip", …}."""
    if isinstance(written, str):
        return tokenizers.AddedToken(written, special=special)
    flags = {flag: bool(written[flag]) for flag in _FLAGS if flag in written}
    return tokenizers.AddedToken(written["content"], **{"special": special, **flags})
