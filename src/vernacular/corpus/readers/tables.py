"""Records in rows: CSV and TSV, Parquet, Hugging Face datasets."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa

from vernacular.corpus.configuration import Source
from vernacular.corpus.readers.record import Record, broken, of_fields
from vernacular.corpus.readers.stream import lines, not_utf8
from vernacular.foundation.errors import MachineError, UserError, nearest

_ROWS = 1024


def read_csv(file: IO[bytes], compression: str | None, source: Source, delimiter: str, where: str) -> Iterator[Record]:
    """Rows of comma- or tab-separated columns, with or without a line that names them.

    Comma-separated values may be quoted and then hold line ends; in tab-separated ones a quotation mark is itself.

    Raises:
        UserError: the named column is not there.
    """
    header = source.header if source.header is not None else delimiter == ","
    tabs = delimiter == "\t"
    state = _Decoding(lines(file, compression))
    rows = csv.reader(state, delimiter=delimiter, quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
    csv.field_size_limit(1 << 30)
    columns: list[str | int] | None = None
    while True:
        begin = state.number + 1
        try:
            row = next(rows)
        except StopIteration:
            break
        except _BadLine as error:
            yield broken(error.problem, state.number, error.size)
            rows = csv.reader(state, delimiter=delimiter, quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
            continue
        except csv.Error as error:
            yield broken(f"not a valid row: {error}", begin, state.last_size)
            rows = csv.reader(state, delimiter=delimiter, quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
            continue
        if columns is None:
            columns = list(row) if header else list(range(len(row)))
            _check_column(source.text, columns, where)
            if header:
                continue
        size = len(delimiter.join(row).encode("utf-8"))
        if row and len(row) != len(columns):
            yield broken(f"{len(row)} columns where there should be {len(columns)}", begin, size)
        elif row:
            fields = dict(zip(columns, row, strict=True))
            yield of_fields(fields, source.text, source.language_field, source.id_field, begin, size)


def read_parquet(file: IO[bytes], source: Source, where: str) -> Iterator[Record]:
    """Rows of a Parquet file.

    Raises:
        UserError: it is no Parquet file, or the named column is not there.
    """
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        _check_column(source.text, list(parquet.schema_arrow.names), where)
        columns = [str(key) for key in (source.text, source.language_field, source.id_field) if key is not None]
        yield from _rows(parquet.iter_batches(batch_size=_ROWS, columns=columns), source)
    except pa.ArrowInvalid as error:
        raise UserError(f"not a readable Parquet file: {error}", where=where, fix="fetch or make it again") from error


def read_dataset(place: str, source: Source) -> Iterator[Record]:
    """A Hugging Face dataset: a folder made by `save_to_disk`, or an id on the hub.

    Raises:
        UserError: there is no such dataset, split or column.
        MachineError: the hub cannot be reached.
    """
    dataset = _saved_dataset(place, source) if source.path or _is_saved(place) else _hub_dataset(place, source)
    _check_column(source.text, list(dataset.column_names or []), place)
    batches = (batch.to_batches() for batch in dataset.with_format("arrow").iter(batch_size=_ROWS))
    yield from _rows((batch for group in batches for batch in group), source)


def _is_saved(place: str) -> bool:
    from pathlib import Path

    return any((Path(place) / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _saved_dataset(place: str, source: Source) -> Any:
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(place)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"not a saved dataset: {error}", where=place, fix="make it with save_to_disk") from error
    if isinstance(dataset, DatasetDict):
        return _chosen_split(dict(dataset), source, place)
    return dataset


def _hub_dataset(place: str, source: Source) -> Any:
    from datasets import get_dataset_split_names, load_dataset
    from datasets.exceptions import DatasetNotFoundError

    split = source.split or "train"
    try:
        names = get_dataset_split_names(place, source.subset)
        if split not in names:
            raise _no_split(split, names, place)
        return load_dataset(place, source.subset, split=split, streaming=True)
    except DatasetNotFoundError as error:
        raise UserError(
            f"no such dataset on the hub: {error}", where=place, fix="check the id, or give a saved dataset's folder"
        ) from error
    except ValueError as error:
        raise UserError(str(error), where=place, fix="check `huggingface`, `subset` and `split`") from error
    except OSError as error:
        raise MachineError(
            f"the hub cannot be reached: {error}", where=place, fix="check the network, or use a saved dataset"
        ) from error


def _chosen_split(splits: dict[str, Any], source: Source, place: str) -> Any:
    if source.split is None and len(splits) == 1:
        return next(iter(splits.values()))
    split = source.split or "train"
    if split not in splits:
        raise _no_split(split, list(splits), place)
    return splits[split]


def _no_split(split: str, names: list[str], place: str) -> UserError:
    return UserError(f"the dataset has no split '{split}'", where=place, fix=f"use one of: {', '.join(names)}")


def _rows(batches: Iterator[pa.RecordBatch], source: Source) -> Iterator[Record]:
    number = 0
    for batch in batches:
        for row in range(batch.num_rows):
            number += 1
            try:
                value = batch.slice(row, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield broken(not_utf8(error), number, batch.slice(row, 1).nbytes)
                continue
            yield of_fields(value, source.text, source.language_field, source.id_field, number, len(str(value)))


def _check_column(text: str | int, columns: list[Any], where: str) -> None:
    if text in columns:
        return
    shown = ", ".join(str(column) for column in columns) or "none"
    close = nearest(str(text), [str(column) for column in columns])
    hint = f"did you mean '{close}'? columns: {shown}" if close else f"set `text` to one of the columns: {shown}"
    raise UserError(f"there is no column '{text}'", where=where, fix=hint)


class _BadLine(Exception):
    """A line of a table that is not UTF-8."""

    def __init__(self, problem: str, size: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.size = size


class _Decoding:
    """Lines as text, counted."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self.number = 0
        self.last_size = 0

    def __iter__(self) -> _Decoding:
        return self

    def __next__(self) -> str:
        raw = next(self._source)
        self.number += 1
        self.last_size = len(raw)
        try:
            return raw.decode("utf-8") + "\n"
        except UnicodeDecodeError as error:
            raise _BadLine(not_utf8(error), len(raw)) from error
