"""Where checkpoints lie: in a folder, or in an object store through fsspec. Half-written ones are not there.

A folder's checkpoint is written beside its name and renamed. An object store knows no renaming: there `position.json`
is written last, and a checkpoint without one is none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter

from vernacular.foundation.errors import MachineError, machine_errors
from vernacular.foundation.files import fsync_path, read_json, write_json

_POSITION = "position.json"


class Storage(Protocol):
    """Checkpoints by name: `step-00000200`, `best-00000120`. Whoever writes or removes is the first rank alone."""

    def place(self, name: str) -> str:
        """Where a checkpoint lies, for people."""
        ...

    def names(self, kind: str) -> list[str]:
        """The whole checkpoints of a kind, `step` or `best`, oldest first."""
        ...

    def position(self, name: str) -> dict[str, Any]:
        """What stands in a checkpoint's `position.json`."""
        ...

    def begin(self, name: str) -> None:
        """Make room for a checkpoint, and remove what is left of those that were never finished."""
        ...

    def writer(self, name: str) -> StorageWriter:
        """Takes a rank's part of a checkpoint that was begun."""
        ...

    def commit(self, name: str, position: Mapping[str, Any]) -> None:
        """Make a checkpoint that all ranks have written a whole one."""
        ...

    def reader(self, name: str) -> StorageReader:
        """Gives a whole checkpoint."""
        ...

    def remove(self, name: str) -> None:
        """Remove a checkpoint."""
        ...


def open_storage(place: Path | str) -> Storage:
    """The storage at a path, or at an address such as `s3://bucket/folder`."""
    return RemoteStorage(str(place)) if "://" in str(place) else LocalStorage(Path(place))


class LocalStorage:
    """Checkpoints in a folder that all ranks see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, name: str) -> str:
        """As `Storage`."""
        return str(self.folder / name)

    def names(self, kind: str) -> list[str]:
        """As `Storage`."""
        return sorted(path.parent.name for path in self.folder.glob(f"{kind}-*/{_POSITION}"))

    def position(self, name: str) -> dict[str, Any]:
        """As `Storage`."""
        return dict(read_json(self.folder / name / _POSITION))

    def begin(self, name: str) -> None:
        """As `Storage`."""
        with machine_errors("writing a checkpoint", self.folder / name):
            for left in self.folder.glob(".*.part"):
                shutil.rmtree(left)
            self._unfinished(name).mkdir(parents=True)

    def writer(self, name: str) -> StorageWriter:
        """As `Storage`."""
        return FileSystemWriter(self._unfinished(name), sync_files=True)

    def commit(self, name: str, position: Mapping[str, Any]) -> None:
        """As `Storage`."""
        write_json(self._unfinished(name) / _POSITION, position)
        shutil.rmtree(self.folder / name, ignore_errors=True)
        self._unfinished(name).rename(self.folder / name)
        fsync_path(self.folder)

    def reader(self, name: str) -> StorageReader:
        """As `Storage`."""
        return FileSystemReader(self.folder / name)

    def remove(self, name: str) -> None:
        """As `Storage`."""
        shutil.rmtree(self.folder / name)

    def _unfinished(self, name: str) -> Path:
        return self.folder / f".{name}.part"


class RemoteStorage:
    """Checkpoints in an object store.

    Args:
        address: where they lie, as fsspec understands it; credentials are those that its package finds by itself.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address.rstrip("/")
        with self._errors("reaching the checkpoints"):
            self._files, self._root = fsspec.core.url_to_fs(self.address)

    def place(self, name: str) -> str:
        """As `Storage`."""
        return f"{self.address}/{name}"

    def names(self, kind: str) -> list[str]:
        """As `Storage`."""
        with self._errors("listing the checkpoints"):
            self._files.invalidate_cache()
            return sorted(path.split("/")[-2] for path in self._files.glob(f"{self._root}/{kind}-*/{_POSITION}"))

    def position(self, name: str) -> dict[str, Any]:
        """As `Storage`."""
        with self._errors("reading a checkpoint"):
            return dict(json.loads(self._files.cat_file(f"{self._root}/{name}/{_POSITION}")))

    def begin(self, name: str) -> None:
        """As `Storage`."""
        with self._errors("writing a checkpoint"):
            whole = {*self.names("step"), *self.names("best")}
            if self._files.exists(self._root):
                for path in self._files.ls(self._root, detail=False):
                    if path.rstrip("/").split("/")[-1] not in whole:
                        self._files.rm(path, recursive=True)

    def writer(self, name: str) -> StorageWriter:
        """As `Storage`."""
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

        return FsspecWriter(self.place(name), sync_files=False)

    def commit(self, name: str, position: Mapping[str, Any]) -> None:
        """As `Storage`."""
        with self._errors("writing a checkpoint"):
            self._files.pipe_file(f"{self._root}/{name}/{_POSITION}", json.dumps(position, allow_nan=False).encode())

    def reader(self, name: str) -> StorageReader:
        """As `Storage`."""
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader

        return FsspecReader(self.place(name))

    def remove(self, name: str) -> None:
        """As `Storage`."""
        with self._errors("removing a checkpoint"):
            # First what makes it one: removed in part, it is none.
            self._files.rm_file(f"{self._root}/{name}/{_POSITION}")
            self._files.rm(f"{self._root}/{name}", recursive=True)

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ImportError, ValueError) as error:
            raise MachineError(
                f"{error}, while {doing}", where=self.address, fix="check checkpoint_folder, access rights and packages"
            ) from error
