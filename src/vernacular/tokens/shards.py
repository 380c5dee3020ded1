"""Token shards: flat arrays on disk, an index with checksums, memory-mapped by whoever reads them.

    index.json                what is here, written last: a folder without it is unfinished
    SPLIT/00000.ids.bin       token ids, uint16 or uint32, documents one after the other, none across two shards
    SPLIT/00000.offsets.bin   uint64 [documents + 1]: where each document begins in the shard, in tokens
    SPLIT/00000.names.bin     16 bytes for each document: its id
    SPLIT/00000.weights.bin   float32 loss weight of each token as a target; not there where all are 1

Numbers are little-endian. A shard holds documents of one language, source and band of quality, which the index names:
so a mixture by any of them, a loss of one language, and the shard of any row are found from the index alone, whatever
the number of documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError, unknown_name
from vernacular.foundation.files import read_json
from vernacular.tokens.configuration import TokenCacheConfiguration
from vernacular.tokens.elsewhere import address_of
from vernacular.tokens.remote_files import RemoteFiles
from vernacular.tokens.shard import INDEX, NAME_BYTES, WEIGHTS, Shard
from vernacular.tokens.shard_cache import RemoteShard, ShardCache
from vernacular.tokens.tokenizer import Tokenizer

FORMAT = 2
# What two folders must have in common to be read as one.
_COMMON = ("dtype", "vocab_size", "tokenizer_hash", "template_hash", "begin_id", "end_id", "pad_id")


class ShardReader:
    """Shards as one long sequence of tokens and documents, mapped, not read.

    Positions are in tokens from the first shard's start, documents are counted from 0 in the shards' order.

    Args:
        folders: folders of token shards, written with the same tokenizer; read one after the other.
        split: the split's name; a folder without it is left out, unless all are.
        language: only the shards of this language.
        source: only the shards of this source.
        quality: only the shards of this band.
        cache: where shards that lie elsewhere are kept; None: in a folder of the default size and place.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        split: str,
        *,
        language: str | None = None,
        source: str | None = None,
        quality: str | None = None,
        cache: ShardCache | None = None,
    ) -> None:
        self.folders = tuple(folders)
        self.folder = self.folders[0]
        self.split = split
        part = {"language": language, "source": source, "quality": quality}
        self._chosen = {**part, "cache": cache}
        self.shards = tuple(
            shard
            for shard in read_shards(self.folders, split, cache)
            if all(wanted in (None, getattr(shard, name)) for name, wanted in part.items())
        )
        index = read_index(self.folder)
        self.vocab_size: int = index["vocab_size"]
        self.tokenizer_hash: str = index["tokenizer_hash"]
        self.template_hash: str | None = index["template_hash"]
        self.begin_id: int = index["begin_id"]
        self.end_id: int = index["end_id"]
        self.pad_id: int = index["pad_id"]
        self._first_token = np.cumsum([0, *(shard.tokens for shard in self.shards)], dtype=np.int64)
        self._first_document = np.cumsum([0, *(shard.documents for shard in self.shards)], dtype=np.int64)

    @classmethod
    def open(cls, folder: str | Path, split: str, verify: bool = False) -> ShardReader:
        """All shards of a split; sizes are always checked, checksums if `verify`. Those elsewhere, on arrival.

        Raises:
            UserError: the folder is unfinished, has no such split, or a file is missing, truncated or altered.
        """
        reader = cls([Path(folder)], split)
        for shard in reader.shards:
            shard.check(verify)
        return reader

    def __reduce__(self) -> tuple[Callable[..., ShardReader], tuple[Any, ...]]:
        return (_reopened, (self.folders, self.split, self._chosen))  # another process maps the files itself

    @property
    def num_tokens(self) -> int:
        """Tokens in all shards."""
        return int(self._first_token[-1])

    @property
    def num_documents(self) -> int:
        """Documents in all shards."""
        return int(self._first_document[-1])

    @property
    def token_starts(self) -> NDArray[np.int64]:
        """Tokens before each shard, and at last all of them, int64 [shards + 1]."""
        return self._first_token

    def slice(self, start: int, stop: int) -> NDArray[np.int64]:
        """Ids of the tokens from `start` up to `stop`, int64 [stop - start]."""
        return self._gather(lambda shard, low, high: shard.ids[low:high], start, stop).astype(np.int64)

    def weights(self, start: int, stop: int) -> NDArray[np.float32]:
        """Loss weights as targets of the tokens from `start` up to `stop`, float32 [stop - start]."""
        return self._gather(_weights, start, stop).astype(np.float32)

    def shards_between(self, start: int, stop: int) -> tuple[Shard, ...]:
        """The shards that hold the tokens from `start` up to `stop`, found from the index alone."""
        self._check_range(start, stop)
        first = int(np.searchsorted(self._first_token, start, side="right")) - 1
        last = int(np.searchsorted(self._first_token, stop, side="left"))
        return self.shards[first:last]

    def document_at(self, position: int) -> int:
        """The document in which the token at `position` stands."""
        self._check_range(position, position + 1)
        shard = int(np.searchsorted(self._first_token, position, side="right")) - 1
        within = np.searchsorted(self.shards[shard].offsets, position - self._first_token[shard], side="right") - 1
        return int(self._first_document[shard] + within)

    def document_range(self, document: int) -> tuple[int, int]:
        """Where a document starts and stops, in tokens."""
        shard, within = self._locate(document)
        offsets = self.shards[shard].offsets
        first = int(self._first_token[shard])
        return first + int(offsets[within]), first + int(offsets[within + 1])

    def document_name(self, document: int) -> str:
        """A document's id, 32 hexadecimal digits."""
        shard, within = self._locate(document)
        return bytes(self.shards[shard].names[within]).hex()

    def document_lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, int64 [num_documents]. The one thing here that grows with the documents."""
        lengths = [np.diff(shard.offsets.astype(np.int64)) for shard in self.shards]
        return np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int64)

    def require_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer other than the one these shards were written with."""
        if tokenizer.hash != self.tokenizer_hash:
            raise UserError(
                f"these tokens were written with the tokenizer {self.tokenizer_hash[:16]}…, not {tokenizer.hash[:16]}…",
                where=self.folder / INDEX,
                fix=f"tokenize again with {tokenizer.where}, or use the tokenizer that the tokens name",
            )

    def _locate(self, document: int) -> tuple[int, int]:
        if not 0 <= document < self.num_documents:
            raise IndexError(f"document {document} of {self.num_documents}")
        shard = int(np.searchsorted(self._first_document, document, side="right")) - 1
        return shard, document - int(self._first_document[shard])

    def _gather(self, read: Callable[[Shard, int, int], NDArray[Any]], start: int, stop: int) -> NDArray[Any]:
        self._check_range(start, stop)
        first = int(np.searchsorted(self._first_token, start, side="right")) - 1
        found = []
        for shard in range(first, len(self.shards)):
            begins, ends = int(self._first_token[shard]), int(self._first_token[shard + 1])
            if begins >= stop:
                break
            found.append(read(self.shards[shard], max(start, begins) - begins, min(stop, ends) - begins))
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.num_tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.num_tokens}")


def _reopened(folders: tuple[Path, ...], split: str, chosen: dict[str, Any]) -> ShardReader:
    return ShardReader(folders, split, **chosen)


def _weights(shard: Shard, low: int, high: int) -> NDArray[np.float32]:
    return np.ones(high - low, dtype=WEIGHTS) if shard.weights is None else shard.weights[low:high]


def read_shards(folders: Sequence[Path], split: str, cache: ShardCache | None = None) -> list[Shard]:
    """The shards of a split as the folders' indices describe them; no other file is looked at."""
    _require_alike(folders)
    indices = {folder: read_index(folder) for folder in folders}
    if not any(split in index["splits"] for index in indices.values()):
        raise unknown_name("split", split, indices[folders[0]]["splits"], where=folders[0] / INDEX)
    found: list[Shard] = []
    for folder, index in indices.items():
        make = _maker(folder, split, cache)
        dtype = np.dtype(index["dtype"]).newbyteorder("<")
        entries = index["splits"].get(split, {"shards": []})["shards"]
        found += [make(folder=folder / split, dtype=dtype, **entry) for entry in entries]
    return found


def _maker(folder: Path, split: str, cache: ShardCache | None) -> Callable[..., Shard]:
    """What makes the shards of a folder: they lie in it or, where it says so, elsewhere."""
    address = address_of(folder)
    if address is None:
        return Shard
    cache = cache or ShardCache(TokenCacheConfiguration())
    return partial(RemoteShard, files=RemoteFiles(f"{address}/{split}", cache.settings), cache=cache)


def read_index(folder: str | Path) -> dict[str, Any]:
    """Read a token shard folder's index; a folder without one is refused as unfinished."""
    path = Path(folder) / INDEX
    if not path.is_file():
        raise UserError(
            "not a finished folder of token shards: index.json is missing", where=folder, fix="run the stage tokenize"
        )
    index: dict[str, Any] = read_json(path)
    if index.get("format") != FORMAT:
        raise UserError(
            f"token shards of format {index.get('format')}; this version reads {FORMAT}, whose shards know their"
            " language and source",
            where=path,
            fix="remove the folder and tokenize again",
        )
    return index


def _require_alike(folders: Sequence[Path]) -> None:
    """Refuse folders of token shards that cannot be read as one: of another tokenizer or chat template."""
    first = read_index(folders[0])
    for folder in folders[1:]:
        index = read_index(folder)
        for key in _COMMON:
            if index[key] != first[key]:
                raise UserError(
                    f"its {key} is {index[key]}, that of {folders[0]} is {first[key]}: their tokens cannot be mixed",
                    where=folder / INDEX,
                    fix="tokenize both with the same tokenizer",
                )


def ids_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 where every id fits, else uint32."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


def name_bytes(name: str) -> bytes:
    """A document's id as 16 bytes."""
    try:
        content = bytes.fromhex(name)
    except ValueError:
        content = b""
    if len(content) != NAME_BYTES:
        raise UserError(f"'{name}' is not a document's id: it needs {2 * NAME_BYTES} hexadecimal digits")
    return content
