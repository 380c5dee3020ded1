"""Files at an address of any file system that fsspec knows: read again after a failure, checked on arrival."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vernacular.foundation.errors import MachineError, UserError, machine_errors
from vernacular.tokens.configuration import TokenCacheConfiguration

_CHUNK_BYTES = 1 << 23
_LONGEST_WAIT = 60.0
_DISK_ERRORS = (MachineError, UserError)

Result = TypeVar("Result")


class RemoteFiles:
    """The files below an address, such as `s3://bucket/tokens`.

    What fails for another reason than that the file is not there is tried again: after `first_wait` seconds, twice as
    many, and so on, each time up to a half longer by chance, so that ranks do not come back all at once.

    Args:
        address: as fsspec understands it; credentials are those that its package finds by itself.
        settings: how often, and after how long, a failure is tried again.
    """

    def __init__(self, address: str, settings: TokenCacheConfiguration) -> None:
        import fsspec

        self.address = address.rstrip("/")
        self._settings = settings
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise MachineError(
                f"no file system for this address: {error}",
                where=self.address,
                fix="install the package it names (s3fs for s3://, gcsfs for gs://), or correct the address",
            ) from error

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
        for attempt in range(1, self._settings.attempts + 1):
            try:
                return act()
            except (FileNotFoundError, *_DISK_ERRORS):
                raise
            except Exception as error:  # each file system's package has its own
                if attempt == self._settings.attempts:
                    raise self._failure(error, name, called) from error
                wait = min(_LONGEST_WAIT, self._settings.first_wait_seconds * 2 ** (attempt - 1))
                time.sleep(wait * random.uniform(1.0, 1.5))
        raise AssertionError("at least one attempt is made")

    def _failure(self, error: Exception, name: str, called: str) -> UserError | MachineError:
        times = f"{self._settings.attempts} times" if self._settings.attempts > 1 else "once"
        if isinstance(error, _Altered):
            return UserError(
                f"{called} was altered: {error} (read {times})",
                where=self.where(name),
                fix="copy the folder of token shards there again, whole",
            )
        return MachineError(
            f"{called} could not be read, tried {times}: {type(error).__name__}: {error}",
            where=self.where(name),
            fix="check the address, access rights and the network, or raise token_cache.attempts",
        )


class _Altered(Exception):
    """What arrived is not what was recorded."""
