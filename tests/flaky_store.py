"""A store in memory that counts what is read, and fails as often as it is told to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FlakyStore(MemoryFileSystem):
    """As the file system in memory, under `flaky://`.

    Attributes:
        failures: how many of the next attempts to open a file of shards fail.
        opened: how often each file of shards was opened, by its name.
    """

    protocol = "flaky"
    cachable = False
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failures = 0
    opened: ClassVar[Counter[str]] = Counter()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("flaky://", "memory://")))

    def _open(self, path: str, mode: str = "rb", *arguments: Any, **options: Any) -> Any:
        if mode == "rb" and path.endswith(".bin"):
            FlakyStore.opened[path.rpartition("/")[2]] += 1
            if FlakyStore.failures:
                FlakyStore.failures -= 1
                raise ConnectionResetError("the store is busy")
        return super()._open(path, mode, *arguments, **options)


fsspec.register_implementation("flaky", FlakyStore, clobber=True)


def upload(folder: Path, address: str) -> str:
    """Copy a folder to an empty store; returns its address."""
    files, root = fsspec.core.url_to_fs(address)
    files.store.clear()
    FlakyStore.failures = 0
    FlakyStore.opened.clear()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        files.pipe_file(f"{root}/{path.relative_to(folder)}", path.read_bytes())
    return address
