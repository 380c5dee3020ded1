"""Small tokenizer folders in the shapes in which models publish theirs, trained on whatever texts a test has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers


def byte_level(texts: Sequence[str], specials: Sequence[str], vocab_size: int = 600) -> Tokenizer:
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    engine.train_from_iterator(texts, trainer)
    return engine


def blank_prefixed(texts: Sequence[str], legacy: bool) -> Tokenizer:
    """BPE over ▁-words with byte fallback, as Llama's: the blank put by a normaliser (older) or a pre-tokeniser."""
    engine = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=specials, limit_alphabet=90, show_progress=False)
    engine.train_from_iterator(texts, trainer)
    description = json.loads(engine.to_str())
    description["added_tokens"] = [token for token in description["added_tokens"] if token["id"] < 3]
    engine = Tokenizer.from_str(json.dumps(description))
    if legacy:
        engine.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        engine.pre_tokenizer = None
    else:
        engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    engine.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return engine


def begin_first(engine: Tokenizer, begin: str) -> Tokenizer:
    engine.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, engine.token_to_id(begin))]
    )
    return engine


def special(text: str, **flags: bool) -> dict[str, Any]:
    return {"content": text, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, **flags}


def typed(text: str) -> dict[str, Any]:
    """As older configurations write a named token."""
    return {"__type": "AddedToken", **special(text)}


def granite(texts: Sequence[str]) -> dict[str, Any]:
    """bos = eos = pad = unk = id 0, nothing put in front; the roles' tokens come after the vocabulary."""
    engine = byte_level(texts, ["<|end_of_text|>", "<fim_prefix>"])
    engine.add_special_tokens(["<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"])
    named = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|end_of_text|>")
    config = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": False, "add_prefix_space": False, **named}
    config |= {"clean_up_tokenization_spaces": True, "additional_special_tokens": ["<fim_prefix>", "<|tool_call|>"]}
    return {"tokenizer.json": json.loads(engine.to_str()), "tokenizer_config.json": config}


def krutrim_2(texts: Sequence[str]) -> dict[str, Any]:
    """Special tokens as mappings, hundreds of reserved ones, `<s>` put first by the post-processor."""
    reserved = [f"<SPECIAL_{number}>" for number in range(4, 300)]
    engine = begin_first(byte_level(texts, ["<unk>", "<s>", "</s>", "<pad>", *reserved], 1000), "<s>")
    added = {
        str(token_id): special(token.content, special=True)
        for token_id, token in engine.get_added_tokens_decoder().items()
    }
    names = {"bos_token": typed("<s>"), "eos_token": "</s>", "pad_token": typed("<pad>")}
    return {
        "tokenizer.json": json.loads(engine.to_str()),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": added, **names},
        "special_tokens_map.json": {
            "bos_token": special("<s>"),
            "eos_token": special("</s>"),
            "pad_token": special("<pad>"),
        },
    }


def mistral(texts: Sequence[str]) -> dict[str, Any]:
    """No pad token; the blank put by the normaliser."""
    engine = begin_first(blank_prefixed(texts, legacy=True), "<s>")
    added = {str(number): special(text, special=True) for number, text in enumerate(("<unk>", "<s>", "</s>"))}
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True, "bos_token": "<s>"}
    config |= {
        "added_tokens_decoder": added,
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": None,
        "additional_special_tokens": [],
    }
    return {"tokenizer.json": json.loads(engine.to_str()), "tokenizer_config.json": config}


def llama(texts: Sequence[str]) -> dict[str, Any]:
    """The blank only at the very beginning, named tokens as typed mappings."""
    engine = begin_first(blank_prefixed(texts, legacy=False), "<s>")
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, "add_eos_token": False}
    config |= {"bos_token": typed("<s>"), "eos_token": typed("</s>"), "unk_token": typed("<unk>")}
    return {"tokenizer.json": json.loads(engine.to_str()), "tokenizer_config.json": config}


def no_begin(texts: Sequence[str]) -> dict[str, Any]:
    """No begin token at all; a token that only the configuration adds, beyond the vocabulary."""
    engine = byte_level(texts, ["<|endoftext|>"])
    size = engine.get_vocab_size()
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": "<|endoftext|>"}
    config["added_tokens_decoder"] = {
        str(size): special("<|im_start|>", special=True),
        "0": special("<|endoftext|>", special=True),
    }
    return {"tokenizer.json": json.loads(engine.to_str()), "tokenizer_config.json": config}


def config_says_otherwise(texts: Sequence[str]) -> dict[str, Any]:
    """The post-processor puts `<s>` first, the configuration says not to; the names stand in the map alone."""
    engine = begin_first(byte_level(texts, ["<s>", "</s>"]), "<s>")
    return {
        "tokenizer.json": json.loads(engine.to_str()),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False},
        "special_tokens_map.json": {"bos_token": special("<s>"), "eos_token": special("</s>")},
    }


def write_folder(folder: Path, contents: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder
