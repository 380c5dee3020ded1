"""The document: what curation writes and everything after it reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from vernacular.corpus.digests import text_digests
from vernacular.foundation.errors import UserError

ID_LENGTH = 32
UNDETERMINED_LANGUAGE = "und"
COMMON_SCRIPT = "Zyyy"

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("script", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("quality", pa.float32()),
        pa.field("provenance", pa.string(), nullable=False),
    ]
)

REMOVED_SCHEMA = pa.schema(
    [*DOCUMENT_SCHEMA, pa.field("reason", pa.string(), nullable=False), pa.field("detail", pa.string(), nullable=False)]
)

PLACE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("provenance", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Document:
    """One document.

    Attributes:
        id: first 32 hexadecimal digits of the SHA-256 of the normalised text (UTF-8).
        text: the normalised text, NFC.
        language: ISO 639-1 code if there is one, else ISO 639-3; "und" if undecided.
        script: ISO 15924 code of the script most letters are in; "Zyyy" without letters.
        source: name of the source in the recipe.
        quality: a score of a later stage, or None.
        provenance: what the record calls itself in its source (`id_field`), or the file that it is all of; empty where
            it is a nameless line of a file, whose place stands in logs/places.
    """

    id: str
    text: str
    language: str
    script: str
    source: str
    quality: float | None
    provenance: str


def document_id(text: str) -> str:
    """The id of a document with this normalised text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:ID_LENGTH]


def document_ids(texts: pa.Array) -> pa.Array:
    """The ids (string [D]) of normalised texts (large_string [D], no nulls)."""
    digests = np.ascontiguousarray(text_digests(texts)[:, : ID_LENGTH // 2])
    ends = np.arange(0, ID_LENGTH * len(texts) + 1, ID_LENGTH, dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(digests.tobytes().hex().encode()))


def document_files(curated: Path, split: str) -> list[Path]:
    """The Parquet files of a split ("train" or "heldout") of a curated artifact, in order.

    Raises:
        UserError: the folder has no such split.
    """
    files = sorted((curated / "documents" / split).glob("*.parquet"))
    if not files:
        raise UserError(
            f"no documents of the split '{split}'",
            where=curated / "documents" / split,
            fix="give the folder of a stage that does `curate`",
        )
    return files
