"""Atomic files and checksums: a file at its final name is whole, or it is not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError, machine_errors

_CHUNK_BYTES = 1 << 20
_JSON_NAMES = {
    list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"
}  # fmt: skip


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; on leaving without an error it is flushed to disk and takes `path`'s name."""
    path = Path(path)
    with machine_errors("writing", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o644)
            fsync_path(temporary)
            os.replace(temporary, path)
            fsync_path(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A hidden folder beside `path`; on leaving without an error it takes `path`'s name, and place if there is one."""
    path = Path(path)
    with machine_errors("writing", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        workspace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        new, old = workspace / "new", workspace / "old"
        try:
            new.mkdir()
            yield new
            if os.path.lexists(path):
                os.replace(path, old)
            os.replace(new, path)
            fsync_path(path.parent)
        finally:
            # Between the two moves nothing stands at `path`: whatever happened there, the old folder goes back, and
            # nothing is removed before it has, or its successor is in place.
            if os.path.lexists(old) and not os.path.lexists(path):
                os.replace(old, path)
            shutil.rmtree(workspace, ignore_errors=True)


def fsync_path(path: Path) -> None:
    """Flush a file or a directory entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as indented UTF-8 JSON, atomically. NaN and infinity are refused."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_text(path: str | Path) -> str:
    """A UTF-8 text file; one that is missing, a folder, not readable or not UTF-8 is a `UserError` that names it."""
    path = Path(path)
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError("file not found", where=path, fix="check the path") from error
    except IsADirectoryError as error:
        raise UserError("this is a folder, not a file", where=path, fix="name a file") from error
    except PermissionError as error:
        raise UserError("the file may not be read", where=path, fix="make it readable") from error
    except UnicodeDecodeError as error:
        raise UserError(f"not valid UTF-8 at byte {error.start}", where=path, fix="save the file as UTF-8") from error


def read_json(path: str | Path) -> Any:
    """Read a JSON file; beside `read_text`'s errors, a malformed one is a `UserError` naming file, line and column."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"not valid JSON: {error.msg}",
            where=f"{path}:{error.lineno}:{error.colno}",
            fix="mend it there; a file that was cut off, fetch again",
        ) from error


def read_json_object(path: str | Path) -> dict[str, Any]:
    """As `read_json`, of a file that holds an object; any other value is a `UserError` too."""
    value = read_json(path)
    if not isinstance(value, dict):
        held = _JSON_NAMES[type(value)]
        raise UserError(f"the file holds {held}, not an object", where=path, fix="it begins with {; take a sound copy")
    return value


def json_objects(lines: Iterable[str], path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON Lines with their lines' numbers, from 1.

    Args:
        lines: of the file; an empty one stands for no object.
        path: where they are, for errors.

    Raises:
        UserError: a line that is no JSON object, by its number.
    """
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"not valid JSON: {error.msg}", where=f"{path}:{number}") from error
        if not isinstance(value, dict):
            raise UserError("expected a JSON object on each line", where=f"{path}:{number}")
        yield number, value


def canonical_json(value: Any) -> bytes:
    """One byte string per value: sorted keys, no spaces. For hashing."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256_bytes(content: bytes) -> str:
    """Hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def sha256_json(value: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value, independent of key order."""
    return sha256_bytes(canonical_json(value))


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content, read in bounded memory."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def files_under(folder: str | Path) -> list[Path]:
    """All regular files below `folder`, sorted, hidden ones and unfinished writes left out."""
    folder = Path(folder)
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
