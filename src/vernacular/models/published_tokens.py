"""What a published folder says of tokens, in canonical form: tokenizer files, chat template, token ids, generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError, unknown_name
from vernacular.foundation.files import read_json_object, read_text, write_json
from vernacular.models.weights import GENERATION, check_token_ids
from vernacular.tokens.template import TEMPLATE_FILE, ChatTemplate
from vernacular.tokens.tokenizer import CONFIG_FILE, Tokenizer
from vernacular.tokens.tokenizer_files import MAP_FILE

ID_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")
# What a generation_config.json may say here, and when it makes sense; the rest is left out.
_SAMPLING: Mapping[str, Callable[[Any], bool]] = {
    "temperature": lambda value: _is_number(value) and value > 0,
    "top_k": lambda value: isinstance(value, int) and value >= 0,
    "top_p": lambda value: _is_number(value) and 0 < value <= 1,
    "min_p": lambda value: _is_number(value) and 0 <= value <= 1,
}
_OTHERS: Mapping[str, Callable[[Any], bool]] = {
    "do_sample": lambda value: isinstance(value, bool),
    "repetition_penalty": lambda value: _is_number(value) and value > 0,
    "max_new_tokens": lambda value: isinstance(value, int) and value > 0,
}
# Written by the library for itself; not worth a word when left out.
_SILENT = ("_from_model_config", "transformers_version", "use_cache")


def write_tokenizer(source: Path, folder: Path, vocab_size: int) -> Tokenizer:
    """Write the source's tokenizer files, made of a SentencePiece model where it has no `tokenizer.json`.

    `tokenizer_config.json` loses the chat template, which stands in its own file, and pointers to remote code.
    """
    tokenizer = Tokenizer.load(source)
    if tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the weights only {vocab_size}",
            where=source,
            fix="put the tokenizer the weights were trained with into the folder",
        )
    tokenizer.save(folder)
    settings = read_json_object(folder / CONFIG_FILE)
    kept = {key: value for key, value in settings.items() if key not in ("chat_template", "auto_map")}
    if "auto_map" in settings:
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    if kept != settings:
        write_json(folder / CONFIG_FILE, kept)
    if not (folder / MAP_FILE).is_file():
        write_json(folder / MAP_FILE, tokenizer.special_names)
    return tokenizer


def check_template(template: str | Path | None) -> None:
    """Refuse a chat template that there is not: a name that is not known, a file that does not exist. None is taken."""
    if isinstance(template, Path):
        if not template.is_file():
            raise UserError("the chat template does not exist", where=template, fix="check the path")
    elif template is not None and template not in (known := ChatTemplate.known()):
        raise unknown_name("chat template", template, known, where="--template")


def write_template(source: Path, folder: Path, tokenizer: Tokenizer, template: str | Path | None) -> None:
    """Write `chat_template.jinja`: the one asked for, or the source's own, if it has one.

    Args:
        source: the published folder.
        folder: receives the file.
        tokenizer: names the special tokens that a known template is written for.
        template: the name of a known template, or a Jinja file; None takes the source's own.
    """
    if isinstance(template, Path):
        ChatTemplate(read_text(template), name=str(template)).save(folder)
    elif template is not None:
        ChatTemplate.named(template, tokenizer.special_names).save(folder)
    elif (source / TEMPLATE_FILE).is_file() or _stated_template(source):
        ChatTemplate.load(source).save(folder)


def _stated_template(source: Path) -> Any:
    return read_json_object(source / CONFIG_FILE).get("chat_template") if (source / CONFIG_FILE).is_file() else None


def published_ids(
    config: Mapping[str, Any], tokenizer: Tokenizer, vocab_size: int, where: Path
) -> dict[str, int | list[int] | None]:
    """Ids of the begin, end and padding tokens: the config's, or those of the tokens that the tokenizer names."""
    ids: dict[str, int | list[int] | None] = {}
    for key in ID_KEYS:
        stated = config.get(key)
        if stated is not None:
            check_token_ids(key, stated, vocab_size, where)
        ids[key] = stated if stated is not None else tokenizer.named_id(key.removesuffix("_id"))
    return ids


def published_generation(
    source: Path, token_ids: Mapping[str, Any], vocab_size: int
) -> tuple[dict[str, Any], list[str]]:
    """The folder's `generation_config.json`, what is sound in it, and a sentence about each setting left out.

    Without the file: the token ids, greedy. Sampling settings without `do_sample` have no effect, so they are left out.

    Raises:
        UserError: a token id is none of the vocabulary.
    """
    stated = read_json_object(source / GENERATION) if (source / GENERATION).is_file() else {"do_sample": False}
    kept: dict[str, Any] = dict(token_ids)
    notes = []
    for key, value in stated.items():
        if value is None or key in _SILENT:
            continue
        if key in ID_KEYS:
            check_token_ids(key, value, vocab_size, source / GENERATION)
            is_sound, reason = True, ""
        elif key in _SAMPLING and stated.get("do_sample") is not True:
            is_sound, reason = False, "has no effect without do_sample"
        elif key in _SAMPLING or key in _OTHERS:
            is_sound, reason = {**_SAMPLING, **_OTHERS}[key](value), "makes no sense"
        else:
            is_sound, reason = False, "is not a setting of ours"
        if is_sound:
            kept[key] = value
        else:
            notes.append(f"{GENERATION}: {key} {value} {reason}; left out")
    return kept, notes


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
