"""Where checkpoints lie: in a folder, or in an object store through fsspec. Half-written ones are not there.

A folder's checkpoint is written beside its name and renamed. An object store knows no renaming: there `position.json`
is written last, and a checkpoint without one is none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter

from vernacular.foundation.address import explain, is_address, may_pass, open_address
from vernacular.foundation.errors import MachineError, machine_error, machine_errors
from vernacular.foundation.files import fsync_path, read_json, write_json
from vernacular.foundation.patience import Patience, persist

KINDS = ("step", "best", "good")
"""What a checkpoint was written for: to go on from; the best by a metric; the last within a stop rule's bound."""
_POSITION = "position.json"
_FIRST_WAIT = 1.0  # seconds

Result = TypeVar("Result")


class Storage(Protocol):
    """Checkpoints by name: `step-00000200`, `best-00000120`. Whoever writes or removes is the first rank alone.

    Attributes:
        patience: how often reading and writing parts is tried, by all ranks together.
    """

    patience: Patience

    def place(self, name: str) -> str:
        """Where a checkpoint lies, for people."""
        ...

    def names(self, kind: str) -> list[str]:
        """The whole checkpoints of one of the `KINDS`, oldest first."""
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

    def explain(self, error: BaseException, doing: str, name: str) -> MachineError:
        """A failure to read or write parts, with what to change; `doing` says what was tried."""
        ...


def open_storage(place: Path | str, attempts: int = 1) -> Storage:
    """The storage at a path, or at an address such as `s3://bucket/folder`, which is asked so many times."""
    return RemoteStorage(str(place), attempts) if is_address(str(place)) else LocalStorage(Path(place))


class LocalStorage:
    """Checkpoints in a folder that all ranks see."""

    patience = Patience(1, 0.0)

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
            removed_in_part = {path for kind in KINDS for path in self.folder.glob(f"{kind}-*")}
            removed_in_part -= {self.folder / found for kind in KINDS for found in self.names(kind)}
            for left in (*self.folder.glob(".*.part"), *removed_in_part):
                shutil.rmtree(left)
            self._unfinished(name).mkdir(parents=True)

    def writer(self, name: str) -> StorageWriter:
        """As `Storage`."""
        return FileSystemWriter(self._unfinished(name), sync_files=True)

    def commit(self, name: str, position: Mapping[str, Any]) -> None:
        """As `Storage`."""
        try:
            write_json(self._unfinished(name) / _POSITION, position)
            shutil.rmtree(self.folder / name, ignore_errors=True)
            self._unfinished(name).rename(self.folder / name)
            fsync_path(self.folder)
        except OSError as error:
            raise self.explain(error, "writing a checkpoint", name) from error

    def reader(self, name: str) -> StorageReader:
        """As `Storage`."""
        return FileSystemReader(self.folder / name)

    def remove(self, name: str) -> None:
        """As `Storage`."""
        try:
            # First what makes it one: removed in part, it is none.
            (self.folder / name / _POSITION).unlink(missing_ok=True)
            shutil.rmtree(self.folder / name)
        except OSError as error:
            raise self.explain(error, "removing a checkpoint", name) from error

    def explain(self, error: BaseException, doing: str, name: str) -> MachineError:
        """As `Storage`; the library wraps a full disk in an error of its own."""
        where = self.place(name)
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            return MachineError(f"{doing} failed: {error}", where=where, fix="remove it to go on from the one before")
        return machine_error(cause, doing, where) or MachineError(
            f"{cause}, while {doing}", where=where, fix="check checkpoint_folder and the disk behind it"
        )

    def _unfinished(self, name: str) -> Path:
        return self.folder / f".{name}.part"


class RemoteStorage:
    """Checkpoints in an object store.

    Args:
        address: where they lie, as `open_address` takes it.
        attempts: how often a thing is tried.
    """

    def __init__(self, address: str, attempts: int) -> None:
        self.address = address.rstrip("/")
        self.patience = Patience(attempts, _FIRST_WAIT)
        self._files, self._root = open_address(self.address)

    def place(self, name: str) -> str:
        """As `Storage`."""
        return f"{self.address}/{name}"

    def names(self, kind: str) -> list[str]:
        """As `Storage`."""

        def find() -> list[str]:
            self._files.invalidate_cache()
            return sorted(path.split("/")[-2] for path in self._files.glob(f"{self._root}/{kind}-*/{_POSITION}"))

        return self._persist("listing the checkpoints", "", find)

    def position(self, name: str) -> dict[str, Any]:
        """As `Storage`."""
        content = self._persist("reading a checkpoint", name, lambda: self._files.cat_file(self._mark(name)))
        return dict(json.loads(content))

    def begin(self, name: str) -> None:
        """As `Storage`."""
        whole = {found for kind in KINDS for found in self.names(kind)}

        def clear() -> None:
            if self._files.exists(self._root):
                for path in self._files.ls(self._root, detail=False):
                    if path.rstrip("/").split("/")[-1] not in whole:
                        self._files.rm(path, recursive=True)

        self._persist("removing what is left of unfinished checkpoints", "", clear)

    def writer(self, name: str) -> StorageWriter:
        """As `Storage`."""
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

        return FsspecWriter(self.place(name), sync_files=False)

    def commit(self, name: str, position: Mapping[str, Any]) -> None:
        """As `Storage`."""
        content = json.dumps(position, allow_nan=False).encode()
        self._persist("writing a checkpoint", name, lambda: self._files.pipe_file(self._mark(name), content))

    def reader(self, name: str) -> StorageReader:
        """As `Storage`."""
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader

        return FsspecReader(self.place(name))

    def remove(self, name: str) -> None:
        """As `Storage`."""

        def remove() -> None:
            # First what makes it one: removed in part, it is none.
            for path in (self._mark(name), f"{self._root}/{name}"):
                if self._files.exists(path):
                    self._files.rm(path, recursive=True)

        self._persist("removing a checkpoint", name, remove)

    def explain(self, error: BaseException, doing: str, name: str) -> MachineError:
        """As `Storage`."""
        return explain(error, doing, self.place(name))

    def _mark(self, name: str) -> str:
        """What makes a checkpoint one."""
        return f"{self._root}/{name}/{_POSITION}"

    def _persist(self, doing: str, name: str, act: Callable[[], Result]) -> Result:
        try:
            return persist(act, self.patience, may_pass)
        except Exception as error:  # each file system's package has its own
            raise self.explain(error, doing, name) from error
