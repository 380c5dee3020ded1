"""What an engine of the tokenizers library does at the edges of a text, and versions of it that do otherwise.

A SentencePiece-like tokenizer puts a blank before a text (its dummy prefix), so a text that goes on after another one
must not be encoded as if it stood alone. And an engine that is told to read special tokens as plain text may still
arrive at one of them, because its letters merge to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import tokenizers

Scheme = Literal["none", "always", "first"]
"""Where a blank is put: nowhere; before each stretch between control tokens; only at the very beginning."""


def prefix_scheme(engine: tokenizers.Tokenizer) -> Scheme:
    """Where this engine puts a blank before the text."""
    parts = [*_parts(engine.normalizer), *_parts(engine.pre_tokenizer)]
    schemes = {_scheme_of(part) for part in parts}
    return "always" if "always" in schemes else "first" if "first" in schemes else "none"


def falls_back_to_bytes(engine: tokenizers.Tokenizer) -> bool:
    """Whether this engine decodes tokens like `<0x0A>` to bytes."""
    return any(part["type"] == "ByteFallback" for part in _parts(engine.decoder))


def without_prefix(engine: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same engine, putting no blank before the text."""
    description = json.loads(engine.to_str())
    for place in ("normalizer", "pre_tokenizer"):
        description[place] = _without_prefix(description[place])
    return _rebuilt(description, engine)


def sealed(engine: tokenizers.Tokenizer, controls: Mapping[str, int]) -> tokenizers.Tokenizer:
    """An engine that arrives at none of `controls` (ids by text), whatever the text; the same one if it does not.

    What an engine with `encode_special_tokens` makes of the control tokens' own texts shows whether it needs it.
    """
    ids = set(controls.values())
    probes = [form for text in controls for form in (text, f"a{text}", f"\n{text}", f" {text} ")]
    if not any(ids.intersection(encoding.ids) for encoding in engine.encode_batch(probes, add_special_tokens=False)):
        return engine
    description = json.loads(engine.to_str())
    renamed = {text: f"\ue000no text spells control token {token_id}\ue001" for text, token_id in controls.items()}
    model = description["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {renamed.get(token, token): token_id for token, token_id in model["vocab"].items()}
    else:
        model["vocab"] = [[renamed.get(token, token), score] for token, score in model["vocab"]]
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not renamed.keys() & _tokens_of(merge)]
    for token in description["added_tokens"]:
        token["content"] = renamed.get(token["content"], token["content"])
    description["post_processor"] = None  # it names tokens, and is not used
    return _rebuilt(description, engine)


def _tokens_of(merge: str | list[str]) -> set[str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return {left, right, left + right}


def _rebuilt(description: dict[str, Any], engine: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    rebuilt = tokenizers.Tokenizer.from_str(json.dumps(description, ensure_ascii=False))
    rebuilt.encode_special_tokens = engine.encode_special_tokens
    return rebuilt


def _parts(component: Any) -> list[dict[str, Any]]:
    """The parts of a normaliser, pre-tokeniser or decoder, as `tokenizer.json` writes them."""
    return _flat(json.loads(component.__getstate__())) if component is not None else []


def _flat(part: dict[str, Any]) -> list[dict[str, Any]]:
    inner = next((part[key] for key in ("normalizers", "pretokenizers", "decoders") if key in part), None)
    return [part] if inner is None else [flat for one in inner for flat in _flat(one)]


def _scheme_of(part: dict[str, Any]) -> Scheme:
    if part["type"] == "Prepend" or (part["type"] == "ByteLevel" and part["add_prefix_space"]):
        return "always"
    if part["type"] == "Metaspace":
        scheme = part.get("prepend_scheme") or ("always" if part.get("add_prefix_space", True) else "never")
        return "always" if scheme == "always" else "first" if scheme == "first" else "none"
    return "none"


def _without_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    if part is None or part["type"] == "Prepend":
        return None
    for key in ("normalizers", "pretokenizers"):
        if key in part:
            return {**part, key: [kept for one in part[key] if (kept := _without_prefix(one)) is not None]}
    if part["type"] == "Metaspace":
        return {**part, "prepend_scheme": "never"}
    if part["type"] == "ByteLevel":
        return {**part, "add_prefix_space": False}
    return part
