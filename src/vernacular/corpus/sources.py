"""From a recipe's sources to the files to read: found, their formats known, nothing skipped in silence."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from vernacular.corpus.configuration import Source
from vernacular.corpus.readers.stream import compression_of
from vernacular.foundation.errors import MachineError, UserError

FORMATS = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".warc": "warc",
    ".wet": "warc",
    ".epub": "epub",
    ".csv": "csv",
    ".tsv": "tsv",
}
_DATASET_MARKS = ("state.json", "dataset_dict.json")
_GLOB_MARKS = "*?["


@dataclass(frozen=True)
class SourceFile:
    """One file to read.

    Attributes:
        source: the source it belongs to.
        number: its position among all files of the recipe; decides the order of documents that are equal.
        path: where it lies in its file system ("" for a generator).
        name: its path relative to the source's root, for provenance.
        format: a key of `Format`, or "synthetic", or "endpoint".
        compression: ".gz", ".zst" or None.
        size: bytes on disk; 0 if unknown.
        filesystem: the fsspec file system that opens it.
    """

    source: Source
    number: int
    path: str
    name: str
    format: str
    compression: str | None
    size: int
    filesystem: Any

    @property
    def shown(self) -> str:
        """The path as an error names it."""
        local = self.filesystem is None or isinstance(self.filesystem, LocalFileSystem)
        return self.path if local else self.filesystem.unstrip_protocol(self.path)


@dataclass(frozen=True)
class Found:
    """The files to read, and those beside them that are left alone (path and why)."""

    files: list[SourceFile]
    not_read: list[dict[str, str]]


def find_files(sources: tuple[Source, ...]) -> Found:
    """List every source's files.

    Raises:
        UserError: a path does not exist, a pattern fits nothing, a file's format is unknown.
        MachineError: a file system's package is missing.
    """
    found = Found([], [])
    for source in sources:
        if source.path is not None:
            _find(source, found)
        else:
            place = source.huggingface or ""
            kind = "dataset" if place else "endpoint" if source.endpoint is not None else "synthetic"
            number = len(found.files)
            found.files.append(SourceFile(source, number, place, place or source.name, kind, None, 0, None))
    return found


def _find(source: Source, found: Found) -> None:
    assert source.path is not None
    filesystem, path = _open_filesystem(source.path)
    path = path.rstrip("/") or "/"
    if any(mark in path for mark in _GLOB_MARKS) and not filesystem.exists(path):
        entries = [entry for entry in sorted(filesystem.glob(path)) if filesystem.isfile(entry)]
        root = posixpath.dirname(path[: min(path.index(mark) for mark in _GLOB_MARKS if mark in path)])
        if not entries:
            raise UserError("no file fits this pattern", where=source.path, fix="check the pattern")
    elif filesystem.isdir(path):
        root = path
        if _is_dataset(filesystem, path, source):
            found.files.append(_file(source, filesystem, path, posixpath.basename(path), "dataset", found))
            return
        entries = sorted(entry for entry in filesystem.find(path) if not _is_hidden(entry, root))
        if not entries:
            raise UserError("this folder holds no files", where=source.path, fix="put text into it, or name another")
    elif filesystem.exists(path):
        root, entries = posixpath.dirname(path), [path]
        if source.format is None and _format_of(path) is None:
            raise _unknown_format(path, source, alone=True)
    else:
        raise UserError("no such file or folder", where=source.path, fix=f"check `path` of the source '{source.name}'")
    before = len(found.files)
    for entry in entries:
        _take(source, filesystem, entry, posixpath.relpath(entry, root) if root else entry, found)
    if len(found.files) == before:
        fix = "check `only`" if source.only else f"the formats read are {', '.join(FORMATS)}"
        raise UserError("none of the files here is to be read", where=source.path, fix=fix)


def _take(source: Source, filesystem: Any, entry: str, name: str, found: Found) -> None:
    if source.only is not None and not any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(posixpath.basename(name), pattern)
        for pattern in source.only
    ):
        found.not_read.append({"source": source.name, "file": name, "why": "does not fit `only`"})
        return
    kind = source.format or _format_of(entry)
    if "." not in posixpath.basename(entry) and source.only is None and source.format is None:
        found.not_read.append({"source": source.name, "file": name, "why": "its name has no extension"})
        return
    if kind is None:
        raise _unknown_format(entry, source, alone=False)
    found.files.append(_file(source, filesystem, entry, name, kind, found))


def _file(source: Source, filesystem: Any, path: str, name: str, kind: str, found: Found) -> SourceFile:
    size = 0 if kind == "dataset" else int(filesystem.size(path) or 0)
    return SourceFile(source, len(found.files), path, name, kind, compression_of(path), size, filesystem)


def _open_filesystem(path: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(path)
    except ImportError as error:
        raise MachineError(f"reading this needs a package: {error}", where=path) from error
    except ValueError as error:
        raise UserError(f"not a path or URL that can be read: {error}", where=path) from error


def _is_dataset(filesystem: Any, path: str, source: Source) -> bool:
    marked = any(filesystem.exists(f"{path}/{mark}") for mark in _DATASET_MARKS)
    return source.format == "dataset" or (source.format is None and marked)


def _is_hidden(entry: str, root: str) -> bool:
    return any(part.startswith(".") for part in posixpath.relpath(entry, root).split("/"))


def _format_of(path: str) -> str | None:
    name = posixpath.basename(path).lower()
    compression = compression_of(name)
    stem = name.removesuffix(compression) if compression else name
    kind = FORMATS.get(posixpath.splitext(stem)[1])
    return None if compression and kind in ("parquet", "epub") else kind


def _unknown_format(path: str, source: Source, *, alone: bool) -> UserError:
    known = f"the formats known are {', '.join(FORMATS)}, each but .parquet and .epub also with .gz or .zst"
    fix = (
        f"set `format` of the source '{source.name}'; {known}"
        if alone
        else f'leave it out with `only`, as in only: ["*.jsonl.gz"], or set `format`; {known}'
    )
    return UserError("the format of this file is unknown", where=path, fix=fix)


def total_bytes(files: Sequence[SourceFile]) -> int:
    """Bytes on disk of all files whose size is known."""
    return sum(file.size for file in files)


def in_tasks(files: list[SourceFile], *, bytes_per_task: int, files_per_task: int) -> Iterator[list[SourceFile]]:
    """Files in groups to be read one after another: many small files together, a large one alone."""
    group: list[SourceFile] = []
    size = 0
    for file in files:
        if group and (size + file.size > bytes_per_task or len(group) >= files_per_task):
            yield group
            group, size = [], 0
        group.append(file)
        size += file.size
    if group:
        yield group
