"""The record of an evaluation: one row per request. Every printed number can be recomputed from these files alone.

`records/run.json` says what was run; `records/TASK.parquet` holds a task's requests; `records/heldout.parquet` the
held-out documents' log-probabilities and `records/yardstick.parquet` what xz makes of the same bytes.
`logs/seconds.parquet` says what each request took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path, read_json

RECORDS = "records"
RUN = "run.json"
HELDOUT = "heldout"
YARDSTICK = "yardstick"
SECONDS = "logs/seconds.parquet"

Row = Mapping[str, Any]

REQUEST_SCHEMA = pyarrow.schema(
    [
        pyarrow.field("task", pyarrow.string(), nullable=False),
        pyarrow.field("filter", pyarrow.string(), nullable=False),
        pyarrow.field("item", pyarrow.int32(), nullable=False),
        pyarrow.field("item_hash", pyarrow.string(), nullable=False),
        pyarrow.field("request", pyarrow.int32(), nullable=False),
        pyarrow.field("language", pyarrow.string()),
        pyarrow.field("prompt", pyarrow.string(), nullable=False),
        pyarrow.field("continuation", pyarrow.string()),
        pyarrow.field("choice", pyarrow.string()),
        pyarrow.field("log_probability", pyarrow.float64()),
        pyarrow.field("is_greedy", pyarrow.bool_()),
        pyarrow.field("num_tokens", pyarrow.int32()),
        pyarrow.field("is_target", pyarrow.bool_()),
        pyarrow.field("chosen", pyarrow.bool_()),
        pyarrow.field("settings", pyarrow.string()),
        pyarrow.field("response", pyarrow.string()),
        pyarrow.field("extracted", pyarrow.string()),
        pyarrow.field("parse_failure", pyarrow.bool_()),
        pyarrow.field("target", pyarrow.list_(pyarrow.string())),
        pyarrow.field("correct", pyarrow.bool_()),
        pyarrow.field("facts", pyarrow.string()),
        pyarrow.field("contamination", pyarrow.string(), nullable=False),
    ]
)
"""A request: `request` counts within its item; `choice` is the text whose length norms count; `settings` are the
generation's, as JSON; `target` lists the right answers; `correct` is the item's, by its first metric of 0 or 1;
`num_tokens` are the continuation's; `facts` what else of the item a metric needs, as JSON;
`contamination` says of the item whether the training text held it: one of `CONTAMINATIONS`."""

CONTAMINATIONS = ("contaminated", "clean", "unknown")

SECONDS_SCHEMA = pyarrow.schema(
    [
        pyarrow.field("task", pyarrow.string(), nullable=False),
        pyarrow.field("item", pyarrow.int32(), nullable=False),
        pyarrow.field("request", pyarrow.int32(), nullable=False),
        pyarrow.field("seconds", pyarrow.float64()),
        pyarrow.field("cached", pyarrow.bool_()),
    ]
)
"""What each request took: its share of its batch, in an earlier evaluation where its answer was `cached`. Kept apart
from the record, which two equal runs share."""

HELDOUT_SCHEMA = pyarrow.schema(
    [
        pyarrow.field("document", pyarrow.string(), nullable=False),
        pyarrow.field("language", pyarrow.string(), nullable=False),
        pyarrow.field("bytes", pyarrow.int64(), nullable=False),
        pyarrow.field("graphemes", pyarrow.int64(), nullable=False),
        pyarrow.field("tokens", pyarrow.int64(), nullable=False),
        pyarrow.field("log_probability", pyarrow.float64(), nullable=False),
    ]
)

YARDSTICK_SCHEMA = pyarrow.schema(
    [
        pyarrow.field("language", pyarrow.string(), nullable=False),
        pyarrow.field("yardstick", pyarrow.string(), nullable=False),
        pyarrow.field("bytes", pyarrow.int64(), nullable=False),
        pyarrow.field("compressed_bytes", pyarrow.int64(), nullable=False),
        pyarrow.field("training_bytes", pyarrow.int64(), nullable=False),
        pyarrow.field("text_sha256", pyarrow.string(), nullable=False),
    ]
)


def write_rows(path: Path, rows: Iterable[Row], schema: pyarrow.Schema) -> None:
    """Write rows as Parquet, atomically."""
    table = pyarrow.Table.from_pylist(list(rows), schema=schema)
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def read_rows(path: Path, schema: pyarrow.Schema) -> list[dict[str, Any]]:
    """Read rows written by `write_rows`; another shape of file is refused."""
    if not path.is_file():
        raise UserError("the record is missing", where=path, fix="evaluate again")
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"the record cannot be read: {error}", where=path, fix="evaluate again") from error
    if table.schema.names != schema.names:
        raise UserError("the record has other columns than this version writes", where=path, fix="evaluate again")
    return table.to_pylist()


def read_run(records: Path) -> dict[str, Any]:
    """What was run: the model's identity, settings, and each task's facts.

    Raises:
        UserError: the folder holds no finished evaluation.
    """
    if not (records / RUN).is_file():
        raise UserError(
            f"the folder holds no finished evaluation: {RECORDS}/{RUN} is missing",
            where=records.parent,
            fix="give a folder that `vernacular evaluate` or a stage that does `evaluate` wrote",
        )
    return read_json(records / RUN)


def by_item(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows grouped by item, items and requests in order."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["item"], []).append(row)
    return [sorted(groups[item], key=lambda row: row["request"]) for item in sorted(groups)]
