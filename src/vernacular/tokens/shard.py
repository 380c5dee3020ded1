"""A token shard: documents of one language, source and quality as flat arrays, mapped when they are first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_file

INDEX = "index.json"
"""What is in a folder of token shards; written last."""

NAME_BYTES = 16
OFFSETS, NAMES, WEIGHTS = np.dtype("<u8"), np.dtype(np.uint8), np.dtype("<f4")
PARTS = ("ids", "offsets", "names", "weights")


@dataclass(frozen=True)
class Shard:
    """One shard, as the index describes it. Its documents stand one after the other, none across two shards.

    Attributes:
        folder: where its files lie.
        name: what its files' names begin with.
        language: of all its documents.
        source: of all its documents.
        tokens: how many it holds.
        documents: how many it holds.
        dtype: of its ids.
        sha256: checksum of each file, by its part.
        quality: the band that all its documents are in; empty where they were not parted.
    """

    folder: Path
    name: str
    language: str
    source: str
    tokens: int
    documents: int
    dtype: np.dtype[Any]
    sha256: Mapping[str, str] = field(compare=False)
    quality: str = ""
    _mapped: dict[str, NDArray[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def path(self, part: str) -> Path:
        """Where the file of a part lies."""
        return self.folder / f"{self.name}.{part}.bin"

    def num_bytes(self, part: str) -> int:
        """Size of the file of a part."""
        dtype, shape = self._form(part)
        return dtype.itemsize * int(np.prod(shape))

    @property
    def ids(self) -> NDArray[Any]:
        """Token ids, [tokens]."""
        return self.array("ids")

    @property
    def offsets(self) -> NDArray[np.uint64]:
        """Where each document begins, and the last one ends, in tokens of the shard, [documents + 1]."""
        return self.array("offsets")

    @property
    def names(self) -> NDArray[np.uint8]:
        """The documents' ids, [documents, 16]."""
        return self.array("names")

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """Loss weight of each token as a target, [tokens]; None where all are 1."""
        return self.array("weights") if "weights" in self.sha256 else None

    def array(self, part: str) -> NDArray[Any]:
        """The content of a part's file, mapped when it is first asked for."""
        if part not in self._mapped:
            self._check(part, verify=False)
            self._mapped[part] = self.map(part, self.path(part))
        return self._mapped[part]

    def map(self, part: str, path: Path) -> NDArray[Any]:
        """A part's file, wherever it lies, as an array."""
        dtype, shape = self._form(part)
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)

    def check(self, verify: bool) -> None:
        """Refuse a file that is missing or has another size or, if `verify`, checksum than the index gives."""
        for part in self.sha256:
            self._check(part, verify)

    def _check(self, part: str, verify: bool) -> None:
        path, expected, recorded = self.path(part), self.num_bytes(part), self.sha256[part]
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            raise UserError(f"the shard is missing; its SHA-256 was {recorded}", where=path, fix="tokenize again")
        if found != expected or (verify and sha256_file(path) != recorded):
            state = f"has {found} bytes instead of {expected}" if found != expected else "was altered"
            raise UserError(
                f"the shard {state}: its SHA-256 is {sha256_file(path)}, recorded was {recorded}",
                where=path,
                fix=f"remove {self.folder.parent} and tokenize again",
            )

    def _form(self, part: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        forms: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            "ids": (self.dtype, (self.tokens,)),
            "offsets": (OFFSETS, (self.documents + 1,)),
            "names": (NAMES, (self.documents, NAME_BYTES)),
            "weights": (WEIGHTS, (self.tokens,)),
        }
        return forms[part]
