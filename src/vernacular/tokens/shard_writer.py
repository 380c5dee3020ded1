"""Writes token shards (their form: `shards.py`) as documents come, with the counts of each language and source."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path, write_json
from vernacular.tokens.measures import TextCounts
from vernacular.tokens.shard import INDEX, OFFSETS, PARTS, WEIGHTS
from vernacular.tokens.shards import FORMAT, ids_dtype, name_bytes
from vernacular.tokens.tokenizer import Tokenizer

# Bytes of all open shards together that wait in memory before they are written.
_BUFFER_BYTES = 1 << 25

Cell = tuple[str, str, str]
"""A language, a source and a band of quality, which may be empty."""


class ShardWriter:
    """Writes a split's shards as documents come, a shard at a time for each language, source and band of quality.

    Memory holds a bounded buffer, and no file stays open, however many languages and sources there are. Use it as a
    context manager; `entry` is the split's part of the index afterwards.
    """

    def __init__(self, folder: Path, split: str, *, vocab_size: int, tokens_per_shard: int, weighted: bool) -> None:
        self.folder = Path(folder) / split
        self.split = split
        self._vocab_size = vocab_size
        self._dtype = ids_dtype(vocab_size)
        self._tokens_per_shard = tokens_per_shard
        self._parts = PARTS if weighted else PARTS[:3]
        self._shards: list[_OpenShard] = []
        self._open: dict[Cell, _OpenShard] = {}
        self._buffered = 0
        self._languages: dict[str, TextCounts] = {}
        self._sources: dict[str, TextCounts] = {}
        self._cells: dict[Cell, TextCounts] = {}
        for leftover in self.folder.glob("*.bin"):  # of a run that was interrupted: there is no index yet
            leftover.unlink()

    def add(
        self,
        ids: Sequence[int],
        *,
        name: str,
        language: str,
        source: str,
        count: TextCounts,
        quality: str = "",
        weights: Sequence[float] | None = None,
    ) -> None:
        """Append a document: its ids, its name (32 hexadecimal digits), and its counts."""
        ids_T = self._checked(ids, name)
        content = {"ids": ids_T.astype(self._dtype).tobytes(), "names": name_bytes(name)}
        if "weights" in self._parts:
            content["weights"] = np.asarray(weights, dtype=WEIGHTS).tobytes()
        cell = (language, source, quality)
        self._buffered += self._shard(cell, len(ids_T)).add(content, len(ids_T))
        if self._buffered > _BUFFER_BYTES:
            for shard in self._open.values():
                shard.flush()
            self._buffered = 0
        for counts, key in ((self._languages, language), (self._sources, source)):
            counts.setdefault(key, TextCounts()).include(count)
        self._cells.setdefault(cell, TextCounts()).include(count)

    def _checked(self, ids: Sequence[int], name: str) -> NDArray[np.uint32]:
        """A document's ids as an array, which a list becomes in half the time by way of `array`."""
        try:
            ids_T = np.frombuffer(array("I", ids), dtype=np.uint32)
            known = bool(ids_T.max(initial=0) < self._vocab_size)
        except OverflowError:
            known = False
        if not known:
            raise UserError(f"document {name} has a token outside the vocabulary of {self._vocab_size}")
        return ids_T

    @property
    def entry(self) -> dict[str, Any]:
        """The split's part of `index.json`: shards of a language and a source stand together."""
        shards = [shard.entry for shard in sorted(self._shards, key=lambda shard: (*shard.cell, shard.name))]
        return {
            "tokens": sum(shard["tokens"] for shard in shards),
            "documents": sum(shard["documents"] for shard in shards),
            "languages": {language: asdict(counts) for language, counts in sorted(self._languages.items())},
            "sources": {source: asdict(counts) for source, counts in sorted(self._sources.items())},
            "cells": [{**_named(cell), **asdict(counts)} for cell, counts in sorted(self._cells.items())],
            "shards": shards,
        }

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        finishing = ExitStack()
        for shard in self._open.values():
            finishing.push(shard.finish)
        finishing.__exit__(kind, error, trace)  # removes unfinished files; names the disk if it was full

    def _shard(self, cell: Cell, num_tokens: int) -> _OpenShard:
        """The open shard of a language and source that has room for so many tokens more."""
        shard = self._open.get(cell)
        if shard is not None and shard.tokens and shard.tokens + num_tokens > self._tokens_per_shard:
            shard.close()
            del self._open[cell]
            shard = None
        if shard is None:
            shard = self._open[cell] = _OpenShard(self.folder, f"{len(self._shards):05d}", cell, self._parts)
            self._shards.append(shard)
        return shard


class _OpenShard:
    """A shard being written: its files have hidden names until they are whole, and are open only while written to."""

    def __init__(self, folder: Path, name: str, cell: Cell, parts: Sequence[str]) -> None:
        self.name = name
        self.cell = cell
        self.tokens = self.documents = 0
        self._stack = ExitStack()
        self._paths = {part: self._stack.enter_context(atomic_path(folder / f"{name}.{part}.bin")) for part in parts}
        self._digests = {part: hashlib.sha256() for part in parts}
        self._waiting: dict[str, list[bytes]] = {part: [] for part in parts}
        self._write("offsets", _offset(0))

    def add(self, content: dict[str, bytes], num_tokens: int) -> int:
        """Append a document's arrays; returns their bytes."""
        self.tokens += num_tokens
        self.documents += 1
        content["offsets"] = _offset(self.tokens)
        for part, written in content.items():
            self._write(part, written)
        return sum(map(len, content.values()))

    def _write(self, part: str, content: bytes) -> None:
        self._digests[part].update(content)
        self._waiting[part].append(content)

    def flush(self) -> None:
        """Write what waits."""
        for part, path in self._paths.items():
            with open(path, "ab") as file:
                file.write(b"".join(self._waiting[part]))
            self._waiting[part].clear()

    def close(self) -> None:
        """Write the rest, and give the files their names."""
        with self._stack:
            self.flush()

    def finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it or, after an error, remove what was written."""
        if kind is None:
            self.close()
        else:
            self._stack.__exit__(kind, error, trace)

    @property
    def entry(self) -> dict[str, Any]:
        """Its part of the index."""
        return {
            "name": self.name,
            **_named(self.cell),
            "tokens": self.tokens,
            "documents": self.documents,
            "sha256": {part: digest.hexdigest() for part, digest in self._digests.items()},
        }


def _named(cell: Cell) -> dict[str, str]:
    """A cell's parts by name; a band only where documents are parted by quality."""
    language, source, quality = cell
    return {"language": language, "source": source, **({"quality": quality} if quality else {})}


def _offset(tokens: int) -> bytes:
    array: NDArray[np.uint64] = np.array([tokens], dtype=OFFSETS)
    return array.tobytes()


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
