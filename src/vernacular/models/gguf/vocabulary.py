"""A tokenizer in llama.cpp's terms: byte-level byte pairs ("gpt2"), or SentencePiece's byte pairs ("llama")."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError
from vernacular.tokens.byte_pairs import merge_scores
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.tokenizer_files import TOKENIZER_FILE, build_engine, read_contents, read_settings

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    Attributes:
        model: "gpt2" or "llama".
        tokens: the text of each id; ids that stand for nothing are filled up.
        types: llama.cpp's type of each.
        merges: pairs in order of preference ("gpt2").
        scores: preference of each token ("llama"); higher is merged first.
        adds_blank: whether a blank is put before a text ("llama").
        contents: `tokenizer.json`.
    """

    model: str
    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str]
    scores: Sequence[float]
    adds_blank: bool
    contents: dict[str, Any]


def read_vocabulary(folder: Path, tokenizer: Tokenizer, vocab_size: int) -> Vocabulary:
    """The folder's tokenizer, for a model with `vocab_size` rows in its embedding table.

    Raises:
        UserError: it is neither kind of byte pairs.
    """
    files = read_contents(folder)
    contents: dict[str, Any] = json.loads(files[TOKENIZER_FILE])
    model = contents["model"]
    parts = json.dumps([contents.get("pre_tokenizer"), contents.get("decoder")])
    is_byte_level = '"ByteLevel"' in parts
    if model["type"] != "BPE" or not (is_byte_level or model.get("byte_fallback")):
        raise UserError(
            f"llama.cpp has no tokenizer of this kind ({model['type']}); byte-level and SentencePiece BPE are written",
            where=folder / TOKENIZER_FILE,
            fix="export as transformers, or give llama.cpp token ids from elsewhere",
        )
    added = build_engine(files, read_settings(files), str(folder)).get_added_tokens_decoder()
    unknown = model.get("unk_token")
    tokens, types = [], []
    for token_id in range(vocab_size):
        text = tokenizer.token_text(token_id)
        tokens.append(text if text is not None else f"[PAD{token_id}]")
        if text is None:
            types.append(UNUSED)
        elif text == unknown:
            types.append(UNKNOWN)
        elif token_id in added:
            types.append(CONTROL if added[token_id].special else USER_DEFINED)
        else:
            types.append(BYTE if not is_byte_level and _is_byte(text) else NORMAL)
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    return Vocabulary(
        model="gpt2" if is_byte_level else "llama",
        tokens=tokens,
        types=types,
        merges=[f"{left} {right}" for left, right in merges] if is_byte_level else [],
        scores=[] if is_byte_level else merge_scores(tokens, merges),
        adds_blank=not is_byte_level and _adds_blank(contents),
        contents=contents,
    )


def _is_byte(text: str) -> bool:
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")


def _adds_blank(contents: dict[str, Any]) -> bool:
    """Whether the normaliser or the pre-tokenizer puts a blank before a text."""
    parts = [contents.get("normalizer") or {}, contents.get("pre_tokenizer") or {}]
    found = [inner for part in parts for inner in part.get("normalizers", part.get("pretokenizers", [part]))]
    return any(
        part.get("type") == "Prepend"
        or (part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") != "never")
        for part in found
    )
