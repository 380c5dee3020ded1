"""Where a set is found: in the folder of --data, in the Hub's form or one of its own; without a folder, on the Hub."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from vernacular.evaluation.library.benchmark import DataSet, Form, LibraryTask, Part
from vernacular.evaluation.library.expressions import evaluated
from vernacular.evaluation.library.readers import Record, reader_of
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_file, sha256_json

HUB_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".parquet", ".csv")


class Placed(NamedTuple):
    """A set that was found.

    Attributes:
        splits: records by split.
        files: SHA-256 of what was read, by name: files, or the Hub's records.
        note: in what it is not the set itself; empty where it is.
        stands_in: whether it is only something like the set.
    """

    splits: Mapping[str, list[Record]]
    files: Mapping[str, str]
    note: str = ""
    stands_in: bool = False


def is_there(task: LibraryTask, folder: Path) -> bool:
    """Whether the folder holds the task's set in any form."""
    return _hub_files(task.data, folder) is not None or _form_in(task.data, folder) is not None


def place(task: LibraryTask, folder: Path | None) -> Placed:
    """Find and read a task's set.

    Args:
        task: the task.
        folder: the folder of --data; None asks the Hub.

    Raises:
        UserError: the set is not there; both ways to give it are named. Or its files are not what they should be.
    """
    try:
        if folder is None:
            return _from_hub(task)
        in_hub_form = _hub_files(task.data, folder)
        if in_hub_form is not None:
            return _from_files(task, in_hub_form)
        form = _form_in(task.data, folder)
        if form is not None:
            return _from_form(form, folder)
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"the data of '{task.name}' is not in the form it should have: {error}", where=folder
        ) from error
    raise UserError(f"the data of '{task.name}' is not there", where=folder, fix=both_ways(task.data))


def both_ways(data: DataSet) -> str:
    """How the set can be given, as a sentence."""
    ways = []
    if data.hub:
        ways.append(f"put it into the folder of --data as {data.place}/SPLIT.jsonl (or .parquet, .csv)")
    for form in data.forms:
        ways.append("put " + " and ".join(part.file for part in form.splits.values()) + " into the folder of --data")
    if data.hub:
        ways.append(f"or leave --data out, with a network, for {data.hub} of the Hugging Face Hub")
    if data.origin:
        ways.append(f"it is published at {data.origin}")
    return "; ".join(ways) or "there is no known source; give a task of your own with --tasks"


def _hub_files(data: DataSet, folder: Path) -> dict[str, Path] | None:
    """Files by split in the Hub's form, or None."""
    if not data.place:
        return None
    home = folder / data.place
    if not home.is_dir() or not home.resolve().is_relative_to(folder.resolve()):
        return None
    found: dict[str, Path] = {}
    for suffix in reversed(HUB_SUFFIXES):
        found |= {path.name.removesuffix(suffix): path for path in sorted(home.glob(f"*{suffix}"))}
    return found or None


def _form_in(data: DataSet, folder: Path) -> Form | None:
    for form in data.forms:
        if all(_file_of(part, folder) is not None for part in form.splits.values()):
            return form
    return None


def _file_of(part: Part, folder: Path) -> Path | None:
    for name in (part.file, f"{part.file}.gz", part.also):
        if name and (folder / name).is_file():
            return folder / name
    return None


def _from_files(task: LibraryTask, paths: Mapping[str, Path]) -> Placed:
    ours = {theirs: name for name, theirs in task.data.rename.items()}
    splits = {ours.get(split, split): _with_fields(task.data, _read_any(path)) for split, path in sorted(paths.items())}
    return Placed(splits, {f"{task.data.place}/{path.name}": sha256_file(path) for path in paths.values()})


def _read_any(path: Path) -> Iterator[Record]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        yield from pyarrow.parquet.read_table(path).to_pylist()
    else:
        yield from reader_of(path, None)(path)


def _with_fields(data: DataSet, records: Iterator[Record]) -> list[Record]:
    """The task's items of the Hub's records."""
    found: list[Record] = []
    seen: set[str] = set()
    for whole in records:
        for record in [whole] if data.each is None else evaluated({"each": data.each}, whole)["each"]:
            item = dict(record) if data.fields is None else evaluated(data.fields, record)
            key = sha256_json([item[name] for name in data.distinct]) if data.distinct else str(len(found))
            if key not in seen:
                seen.add(key)
                found.append(item)
    return found


def _from_form(form: Form, folder: Path) -> Placed:
    splits, hashes = {}, {}
    for split, part in form.splits.items():
        path = _file_of(part, folder)
        assert path is not None
        splits[split] = _part(part, path)
        hashes[path.relative_to(folder).as_posix()] = _hash_of(path)
    return Placed(splits, hashes, form.note, form.stands_in)


def _part(part: Part, path: Path) -> list[Record]:
    records: Iterator[Record] = iter(_all_of(path, part.reader))
    if part.each is not None:
        records = (one for record in records for one in evaluated({"each": part.each or ""}, record)["each"])
    if part.only:
        records = (record for record in records if all(record.get(key) == value for key, value in part.only.items()))
    if part.records is not None:
        records = islice(records, *part.records)
    return [dict(record) if part.fields is None else evaluated(part.fields, record) for record in records]


@functools.lru_cache(maxsize=4)
def _all_of(path: Path, reader: str | None) -> tuple[Record, ...]:
    """A file's records, read once for the many tasks that share it."""
    return tuple(reader_of(path, reader)(path))


@functools.lru_cache(maxsize=64)
def _hash_of(path: Path) -> str:
    return sha256_file(path)


def _from_hub(task: LibraryTask) -> Placed:
    data = task.data
    if data.hub is None:
        raise UserError(
            f"the data of '{task.name}' is not on the Hugging Face Hub", where="--data", fix=both_ways(data)
        )
    try:
        loaded: Any = datasets.load_dataset(data.hub, data.config)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"the data of '{task.name}' did not come from the Hugging Face Hub: {type(error).__name__}: {error}",
            where=data.place,
            fix=both_ways(data),
        ) from error
    ours = {theirs: name for name, theirs in data.rename.items()}
    splits = {ours.get(str(split), str(split)): _with_fields(data, iter(rows)) for split, rows in loaded.items()}
    return Placed(splits, {f"hub:{data.place}/{name}": sha256_json(rows) for name, rows in splits.items()})
