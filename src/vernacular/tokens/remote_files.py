"""Files at an address of any file system that fsspec knows: read again after a failure, checked on arrival."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vernacular.foundation.address import explain, may_pass, open_address
from vernacular.foundation.errors import MachineError, UserError, VernacularError, machine_errors
from vernacular.foundation.patience import Patience, persist
from vernacular.tokens.configuration import TokenCacheConfiguration

_CHUNK_BYTES = 1 << 23

Result = TypeVar("Result")


class RemoteFiles:
    """The files below an address, such as `s3://bucket/tokens`.

    Args:
        address: as `open_address` takes it.
        settings: how often, and after how long, a failure is tried again.
    """

    def __init__(self, address: str, settings: TokenCacheConfiguration) -> None:
        self.address = address.rstrip("/")
        self._patience = Patience(settings.attempts, settings.first_wait_seconds)
        self._files, self._root = open_address(self.address)

    def where(self, name: str) -> str:
        """The address of a file."""
        return f"{self.address}/{name}"

    def read(self, name: str) -> bytes | None:
        """A small file's content; None where there is no such file."""

        def read() -> bytes | None:
            try:
                return bytes(self._files.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

        return self._persist(read, name, name)

    def names(self, folder: str) -> list[str]:
        """The files below a folder, relative to the address, sorted; none where there is no such folder."""
        found = self._persist(lambda: self._files.find(f"{self._root}/{folder}"), folder, folder)
        return sorted(path[path.index(f"{folder}/") :] for path in found)

    def fetch(self, name: str, place: Path, *, num_bytes: int, sha256: str, called: str) -> None:
        """Copy a file to `place`, and see that it has the bytes that are expected.

        Args:
            name: the file, relative to the address.
            place: a file of that size, which is overwritten.
            num_bytes: its size.
            sha256: its checksum.
            called: what it is, for errors.

        Raises:
            UserError: it is not there, or is another one than expected, however often it is read.
            MachineError: it cannot be read, or not be written here.
        """
        try:
            self._persist(lambda: self._copy(name, place, num_bytes, sha256), name, called)
        except FileNotFoundError as error:
            raise UserError(
                f"{called} is missing; its SHA-256 was {sha256}",
                where=self.where(name),
                fix="copy the folder of token shards there again, whole",
            ) from error

    def _copy(self, name: str, place: Path, num_bytes: int, sha256: str) -> None:
        digest, arrived = hashlib.sha256(), 0
        with (
            self._files.open(f"{self._root}/{name}", "rb") as source,
            machine_errors("caching a shard", place),
            open(place, "r+b") as copy,  # its size is set already: the room was set aside
        ):
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
                arrived += len(chunk)
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
        if arrived != num_bytes or digest.hexdigest() != sha256:
            raise _Altered(
                f"{arrived} bytes with SHA-256 {digest.hexdigest()} arrived, {num_bytes} with {sha256} were recorded"
            )

    def _persist(self, act: Callable[[], Result], name: str, called: str) -> Result:
        """Do it, again and again. What is not there is asked for once, and this machine's own faults are raised."""
        try:
            return persist(act, self._patience, may_pass)
        except (FileNotFoundError, VernacularError):
            raise
        except Exception as error:  # each file system's package has its own
            raise self._failure(error, name, called) from error

    def _failure(self, error: Exception, name: str, called: str) -> UserError | MachineError:
        attempts = self._patience.attempts if may_pass(error) else 1
        times = f"{attempts} times" if attempts > 1 else "once"
        if isinstance(error, _Altered):
            return UserError(
                f"{called} was altered: {error} (read {times})",
                where=self.where(name),
                fix="copy the folder of token shards there again, whole",
            )
        return explain(error, f"reading {called}, tried {times}", self.where(name))


class _Altered(Exception):
    """What arrived is not what was recorded."""
