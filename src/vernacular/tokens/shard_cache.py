"""Token shards that lie elsewhere, whole on this machine's disk while they are wanted, and no more than fit.

Shards in the cache are named by their content, so that the processes of a machine, and runs one after the other, share
them. The disk holds at most `max_bytes`: room is set aside before a shard is fetched, for which those used longest ago
go.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vernacular.foundation.errors import UserError, VernacularError, machine_errors
from vernacular.foundation.files import sha256_json
from vernacular.foundation.native import cache_folder
from vernacular.tokens.configuration import TokenCacheConfiguration
from vernacular.tokens.remote_files import RemoteFiles
from vernacular.tokens.shard import Shard

_UNFINISHED = ".part"
_ROOM = "room"  # the lock of what the folder holds: it changes under it alone, so that sizes add up
_LOCKS = 64  # shards whose names end alike wait for each other


class ShardCache:
    """Fetches shards when they are asked for, and ahead of that in a thread of its own.

    Args:
        settings: the folder, how many bytes it may hold, how failures are dealt with.
    """

    def __init__(self, settings: TokenCacheConfiguration) -> None:
        self.settings = settings
        self.folder = Path(settings.folder) if settings.folder else cache_folder() / "tokens"
        self._mapped: dict[str, dict[str, NDArray[Any]]] = {}
        self._kept: set[str] = set()
        self._expected: dict[str, RemoteShard] = {}
        self._guard = threading.Condition()
        self._thread: threading.Thread | None = None
        with machine_errors("making the cache of token shards", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished()

    def __reduce__(self) -> tuple[Callable[..., ShardCache], tuple[Any, ...]]:
        return (ShardCache, (self.settings,))  # another process maps the files itself

    def array(self, shard: RemoteShard, part: str) -> NDArray[Any]:
        """A part of a shard, which is fetched if it is not here."""
        place = self.folder / shard.key
        with self._guard:
            mapped = self._mapped.get(shard.key, {}).get(part)
        while mapped is None:
            self._bring(shard, ahead=False)
            try:
                found = shard.map(part, place / f"{part}.bin")
            except FileNotFoundError:  # another process needed its place in the meantime
                continue
            with self._guard:
                mapped = self._mapped.setdefault(shard.key, {}).setdefault(part, found)
        _touch(place)
        return mapped

    def expect(self, shards: Sequence[RemoteShard]) -> None:
        """Fetch these ahead, in this order, into the place of those that are not among them."""
        expected = {shard.key: shard for shard in shards}
        with self._guard:
            if list(expected) == list(self._expected):
                return
            self._expected = expected
            self._guard.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._fetch_ahead, name="token-shards", daemon=True)
            self._thread.start()

    def keep(self, shards: Sequence[RemoteShard]) -> None:
        """Let these stay once they are here: held-out text, say, which is read again and again."""
        with self._guard:
            self._kept |= {shard.key for shard in shards}

    def require(self, num_bytes: int, what: str, *, fix: str) -> None:
        """Refuse what takes more bytes than the cache may hold: it would fetch the same shards on and on."""
        if num_bytes > self.settings.max_bytes:
            raise UserError(
                f"{what} {num_bytes} bytes; the cache of token shards may hold {self.settings.max_bytes}",
                where="token_cache.max_bytes",
                fix=fix,
            )

    def _fetch_ahead(self) -> None:
        tried: set[str] = set()
        while True:
            with self._guard:
                tried &= self._expected.keys()
                while (shard := next((s for key, s in self._expected.items() if key not in tried), None)) is None:
                    self._guard.wait()
                    tried &= self._expected.keys()
            tried.add(shard.key)
            try:
                self._bring(shard, ahead=True)
                _touch(self.folder / shard.key)
            except VernacularError:
                pass  # whoever asks for the shard tries again, and is told

    def _bring(self, shard: RemoteShard, *, ahead: bool) -> None:
        """See that a shard is here. What is fetched ahead takes the place of no shard that is expected."""
        place = self.folder / shard.key
        if place.is_dir():
            return
        with self._locked(_lock_of(shard.key)):
            if place.is_dir():  # another process, or the thread, was first
                return
            unfinished = self.folder / f"{shard.key}{_UNFINISHED}"
            if not self._set_aside(shard, unfinished, ahead=ahead):
                return
            try:
                for part in shard.sha256:
                    shard.fetch(part, unfinished / f"{part}.bin")
                with self._locked(_ROOM):
                    os.replace(unfinished, place)
            finally:
                self._discard(unfinished)

    def _set_aside(self, shard: RemoteShard, unfinished: Path, *, ahead: bool) -> bool:
        """Room for a shard: files of its size, without content; False where nothing may go for one fetched ahead."""
        wanted = shard.total_bytes
        self.require(wanted, f"{shard.called} takes", fix=f"raise it to {wanted} at least")
        with self._locked(_ROOM), machine_errors("caching a shard", self.folder):
            for key in self._oldest(ahead=ahead):
                if self._used() + wanted <= self.settings.max_bytes:
                    break
                self._remove(key)
            used = self._used()
            if ahead and used + wanted > self.settings.max_bytes:
                return False
            self.require(used + wanted, f"what is to stay, what just arrives and {shard.called} take", fix="raise it")
            shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
            unfinished.mkdir()
            for part in shard.sha256:
                path = unfinished / f"{part}.bin"
                path.touch()
                os.truncate(path, shard.num_bytes(part))
        return True

    def _oldest(self, *, ahead: bool) -> list[str]:
        """The shards that may go, those used longest ago first."""
        with self._guard:
            staying = self._kept | (self._expected.keys() if ahead else set())
        found = [(place.stat().st_mtime_ns, place.name) for place in self.folder.iterdir() if _is_shard(place)]
        return [key for _, key in sorted(found) if key not in staying]

    def _used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*/*.bin"))

    def _remove(self, key: str) -> None:
        with self._guard:
            self._mapped.pop(key, None)
            gone = [mapped for mapped in self._mapped if not (self.folder / mapped).is_dir()]
            for mapped in gone:  # by another process; as long as it is mapped here, the disk keeps it
                del self._mapped[mapped]
        # Under another name first: what is removed in part is no shard.
        leaving = self.folder / f"{key}.gone"
        shutil.rmtree(leaving, ignore_errors=True)
        os.replace(self.folder / key, leaving)
        shutil.rmtree(leaving, ignore_errors=True)

    def _remove_unfinished(self) -> None:
        """Remove what a killed process left: shards in part that nobody is fetching."""
        for left in [*self.folder.glob(f"*{_UNFINISHED}"), *self.folder.glob("*.gone")]:
            with self._locked(_lock_of(left.stem), wait=False) as is_free:
                if is_free:
                    self._discard(left)

    def _discard(self, left: Path) -> None:
        if left.exists():
            with self._locked(_ROOM):
                shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Alone among all threads and processes that share the folder; whether it is, where one does not wait."""
        descriptor = os.open(self.folder / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield _lock(descriptor, wait)
        finally:
            os.close(descriptor)


def _lock_of(key: str) -> str:
    return f"shard-{int(key[-4:], 16) % _LOCKS:02d}"


def _lock(descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is_shard(place: Path) -> bool:
    return place.is_dir() and not place.suffix


def _touch(place: Path) -> None:
    """Note that a shard was used. Another process may have removed it; what is mapped can still be read."""
    now = time.time_ns()  # the system's own clock for files is coarser
    try:
        os.utime(place, ns=(now, now))
    except FileNotFoundError:
        return


@dataclass(frozen=True)
class RemoteShard(Shard):
    """A shard whose files lie at an address.

    Attributes:
        files: the folder of its split there.
        cache: where it is kept here.
        key: its name there, by its content.
    """

    files: RemoteFiles = field(kw_only=True, compare=False)
    cache: ShardCache = field(kw_only=True, compare=False)

    @cached_property
    def key(self) -> str:
        """Its name in the cache: the checksum of its files' checksums."""
        return sha256_json(dict(self.sha256))[:32]

    @property
    def total_bytes(self) -> int:
        """Size of all its files."""
        return sum(map(self.num_bytes, self.sha256))

    @property
    def called(self) -> str:
        """What it is, for errors."""
        return f"the shard {self.name} of split {self.folder.name} ({self.language}, {self.source})"

    def array(self, part: str) -> NDArray[Any]:
        """As `Shard`."""
        return self.cache.array(self, part)

    def check(self, verify: bool) -> None:
        """As `Shard`: with `verify` it is fetched; sizes and checksums are looked at on arrival, always."""
        if verify:
            self.array("ids")

    def fetch(self, part: str, place: Path) -> None:
        """Copy the file of a part."""
        name = self.path(part).name
        size = self.num_bytes(part)
        self.files.fetch(name, place, num_bytes=size, sha256=self.sha256[part], called=f"{part} of {self.called}")
