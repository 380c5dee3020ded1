"""Writes token shards (their form: `shards.py`) as documents come, with the counts of each language."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path, write_json
from vernacular.tokens.measures import TextCounts
from vernacular.tokens.shards import FORMAT, INDEX, OFFSETS, PARTS, WEIGHTS, ids_dtype, name_bytes
from vernacular.tokens.tokenizer import Tokenizer


class ShardWriter:
    """Writes a split's shards as documents come; memory holds one shard's offsets and names, no tokens.

    Use it as a context manager; `entry` is the split's part of the index afterwards.
    """

    def __init__(self, folder: Path, split: str, *, vocab_size: int, tokens_per_shard: int, weighted: bool) -> None:
        self.folder = Path(folder) / split
        self.split = split
        self._vocab_size = vocab_size
        self._dtype = ids_dtype(vocab_size)
        self._tokens_per_shard = tokens_per_shard
        self._parts = PARTS if weighted else PARTS[:3]
        self._shards: list[dict[str, Any]] = []
        self._languages: dict[str, TextCounts] = {}
        self._open: ExitStack | None = None
        self._files: dict[str, _HashedFile] = {}
        self._tokens = self._documents = 0
        for leftover in self.folder.glob("*.bin"):  # of a run that was interrupted: there is no index yet
            leftover.unlink()

    def add(
        self,
        ids: Sequence[int],
        *,
        name: str,
        language: str,
        text: str,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Append a document: its ids, its name (32 hexadecimal digits), and its text for the counts."""
        ids_T = np.asarray(ids, dtype=np.int64)
        if ids_T.size and not 0 <= ids_T.min() <= ids_T.max() < self._vocab_size:
            raise UserError(f"document {name} has a token outside the vocabulary of {self._vocab_size}")
        if self._open is None or (self._tokens and self._tokens + len(ids_T) > self._tokens_per_shard):
            self._close_shard()
            self._open_shard()
        self._tokens += len(ids_T)
        self._documents += 1
        self._files["ids"].write(ids_T.astype(self._dtype))
        self._files["offsets"].write(np.array([self._tokens], dtype=OFFSETS))
        self._files["names"].write(np.frombuffer(name_bytes(name), dtype=np.uint8))
        if "weights" in self._files:
            self._files["weights"].write(np.asarray(weights, dtype=WEIGHTS))
        self._languages.setdefault(language, TextCounts()).add(text, len(ids_T))

    @property
    def entry(self) -> dict[str, Any]:
        """The split's part of `index.json`."""
        return {
            "tokens": sum(shard["tokens"] for shard in self._shards),
            "documents": sum(shard["documents"] for shard in self._shards),
            "languages": {language: asdict(counts) for language, counts in sorted(self._languages.items())},
            "shards": self._shards,
        }

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._close_shard()
        elif self._open is not None:
            self._open.__exit__(kind, error, trace)  # removes the unfinished files; names the disk if it was full

    def _open_shard(self) -> None:
        self._tokens = self._documents = 0
        self._open = ExitStack()
        for part in self._parts:
            temporary = self._open.enter_context(atomic_path(self.folder / f"{len(self._shards):05d}.{part}.bin"))
            self._files[part] = _HashedFile(self._open.enter_context(open(temporary, "wb")))  # noqa: SIM115
        self._files["offsets"].write(np.zeros(1, dtype=OFFSETS))

    def _close_shard(self) -> None:
        if self._open is None:
            return
        self._open.close()
        self._open = None
        self._shards.append(
            {
                "name": f"{len(self._shards):05d}",
                "tokens": self._tokens,
                "documents": self._documents,
                "sha256": {part: file.digest.hexdigest() for part, file in self._files.items()},
            }
        )


class _HashedFile:
    """A file being written, and the SHA-256 of what was."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, array: NDArray[Any]) -> None:
        content = array.tobytes()
        self.digest.update(content)
        self.file.write(content)


def write_index(
    folder: Path, tokenizer: Tokenizer, splits: dict[str, dict[str, Any]], *, template_hash: str | None = None
) -> None:
    """Write `index.json`: the last file of a token shard folder."""
    write_json(
        Path(folder) / INDEX,
        {
            "format": FORMAT,
            "dtype": ids_dtype(tokenizer.vocab_size).name,
            "vocab_size": tokenizer.vocab_size,
            "tokenizer_hash": tokenizer.hash,
            "template_hash": template_hash,
            "begin_id": tokenizer.begin_id,
            "end_id": tokenizer.end_id,
            "pad_id": tokenizer.pad_id,
            "splits": splits,
        },
    )
