"""Token shards: flat arrays on disk, an index with checksums, memory-mapped by whoever reads them.

    index.json                what is here, written last: a folder without it is unfinished
    SPLIT/00000.ids.bin       token ids, uint16 or uint32, documents one after the other, none across two shards
    SPLIT/00000.offsets.bin   uint64 [documents + 1]: where each document begins in the shard, in tokens
    SPLIT/00000.names.bin     16 bytes for each document: its id
    SPLIT/00000.weights.bin   float32 loss weight of each token as a target; not there where all are 1

Numbers are little-endian.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError, unknown_name
from vernacular.foundation.files import read_json, sha256_file
from vernacular.tokens.tokenizer import Tokenizer

INDEX = "index.json"
NAME_BYTES = 16
FORMAT = 1
OFFSETS, WEIGHTS = np.dtype("<u8"), np.dtype("<f4")
PARTS = ("ids", "offsets", "names", "weights")


class ShardReader:
    """A split of a token shard folder as one long sequence of tokens and documents, mapped, not read.

    Positions are in tokens from the split's start, documents are counted from 0 in the order they were written.
    """

    def __init__(self, folder: str | Path, split: str, verify: bool = False) -> None:
        self.folder = Path(folder)
        self.split = split
        index = read_index(self.folder)
        if split not in index["splits"]:
            raise unknown_name("split", split, index["splits"], where=self.folder / INDEX)
        entry = index["splits"][split]
        self.vocab_size: int = index["vocab_size"]
        self.tokenizer_hash: str = index["tokenizer_hash"]
        self.template_hash: str | None = index["template_hash"]
        self.begin_id: int = index["begin_id"]
        self.end_id: int = index["end_id"]
        self.pad_id: int = index["pad_id"]
        self.languages: dict[str, dict[str, int]] = entry["languages"]
        self._dtype = np.dtype(index["dtype"]).newbyteorder("<")
        self._shards = [self._map(shard, verify) for shard in entry["shards"]]
        tokens = [shard["tokens"] for shard in entry["shards"]]
        documents = [shard["documents"] for shard in entry["shards"]]
        self._first_token = np.concatenate([[0], np.cumsum(tokens, dtype=np.int64)])
        self._first_document = np.concatenate([[0], np.cumsum(documents, dtype=np.int64)])

    @classmethod
    def open(cls, folder: str | Path, split: str, verify: bool = False) -> ShardReader:
        """Map a split's shards; sizes are always checked, checksums if `verify`.

        Raises:
            UserError: the folder is unfinished, has no such split, or a file is missing, truncated or altered.
        """
        return cls(folder, split, verify)

    def __reduce__(self) -> tuple[type[ShardReader], tuple[Path, str]]:
        return (ShardReader, (self.folder, self.split))  # another process maps the files itself

    @property
    def num_tokens(self) -> int:
        """Tokens in the split."""
        return int(self._first_token[-1])

    @property
    def num_documents(self) -> int:
        """Documents in the split."""
        return int(self._first_document[-1])

    def slice(self, start: int, stop: int) -> NDArray[np.int64]:
        """Ids of the tokens from `start` up to `stop`, int64 [stop - start]."""
        return self._gather("ids", start, stop).astype(np.int64)

    def weights(self, start: int, stop: int) -> NDArray[np.float32]:
        """Loss weights as targets of the tokens from `start` up to `stop`, float32 [stop - start]."""
        return self._gather("weights", start, stop).astype(np.float32)

    def document_at(self, position: int) -> int:
        """The document in which the token at `position` stands."""
        self._check_range(position, position + 1)
        shard = int(np.searchsorted(self._first_token, position, side="right")) - 1
        within = np.searchsorted(self._shards[shard]["offsets"], position - self._first_token[shard], side="right") - 1
        return int(self._first_document[shard] + within)

    def document_range(self, document: int) -> tuple[int, int]:
        """Where a document starts and stops, in tokens."""
        shard, within = self._locate(document)
        offsets = self._shards[shard]["offsets"]
        first = int(self._first_token[shard])
        return first + int(offsets[within]), first + int(offsets[within + 1])

    def document_name(self, document: int) -> str:
        """A document's id, 32 hexadecimal digits."""
        shard, within = self._locate(document)
        return bytes(self._shards[shard]["names"][within]).hex()

    def document_lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, int64 [num_documents]. The one thing here that grows with the documents."""
        lengths = [np.diff(shard["offsets"].astype(np.int64)) for shard in self._shards]
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

    def _gather(self, part: str, start: int, stop: int) -> NDArray[Any]:
        self._check_range(start, stop)
        first = int(np.searchsorted(self._first_token, start, side="right")) - 1
        found = []
        for shard in range(first, len(self._shards)):
            begins, ends = int(self._first_token[shard]), int(self._first_token[shard + 1])
            if begins >= stop:
                break
            low, high = max(start, begins) - begins, min(stop, ends) - begins
            array = self._shards[shard].get(part)
            found.append(np.ones(high - low, dtype=WEIGHTS) if array is None else array[low:high])
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.num_tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.num_tokens}")

    def _map(self, shard: dict[str, Any], verify: bool) -> dict[str, NDArray[Any]]:
        """The shard's arrays, once each file has the size (and, if `verify`, the checksum) that the index gives."""
        tokens, documents = shard["tokens"], shard["documents"]
        kinds: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            "ids": (self._dtype, (tokens,)),
            "offsets": (OFFSETS, (documents + 1,)),
            "names": (np.dtype(np.uint8), (documents, NAME_BYTES)),
            "weights": (WEIGHTS, (tokens,)),
        }
        arrays: dict[str, NDArray[Any]] = {}
        for part, recorded in shard["sha256"].items():
            path = self.folder / self.split / f"{shard['name']}.{part}.bin"
            dtype, shape = kinds[part]
            expected = dtype.itemsize * int(np.prod(shape))
            found = path.stat().st_size if path.is_file() else None
            if found is None:
                raise UserError(f"the shard is missing; its SHA-256 was {recorded}", where=path, fix="tokenize again")
            if found != expected or (verify and sha256_file(path) != recorded):
                state = f"has {found} bytes instead of {expected}" if found != expected else "was altered"
                raise UserError(
                    f"the shard {state}: its SHA-256 is {sha256_file(path)}, recorded was {recorded}",
                    where=path,
                    fix=f"remove {self.folder} and tokenize again",
                )
            arrays[part] = np.memmap(path, dtype=dtype, mode="r", shape=shape)
        return arrays


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
            f"token shards of format {index.get('format')}; this version reads {FORMAT}",
            where=path,
            fix="tokenize again",
        )
    return index


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
