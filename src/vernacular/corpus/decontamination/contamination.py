"""Which items of benchmarks the training text holds: the file that curation writes and evaluation reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json_object, write_json

CONTAMINATION = "contamination.json"
_FORMAT = 1
STANDINGS = ("contaminated", "removed", "clean", "unknown")
"""Of an item: in the training text; found, but in no text that is trained on; not found; too short to look for."""

Entry = tuple[int, str]
"""An item's place among its task's, and its hash."""


@dataclass(frozen=True)
class TaskContamination:
    """The items of a task by standing.

    Attributes:
        data_hash: of all its items.
        items: for each of `STANDINGS` the items of which that is so.
    """

    data_hash: str
    items: Mapping[str, Sequence[Entry]]

    def by_hash(self) -> dict[str, str]:
        """What an evaluation calls each item, by its hash: contaminated, clean or unknown.

        What was found in text that is not trained on is clean. Of equal items one standing holds, the first of these.
        """
        called = {"removed": "clean"}
        known = ((standing, hash_) for standing in reversed(STANDINGS) for _, hash_ in self.items[standing])
        return {hash_: called.get(standing, standing) for standing, hash_ in known}


def write_contamination(path: Path, tasks: Mapping[str, TaskContamination]) -> None:
    """Write the file."""
    entries = {}
    for name, task in sorted(tasks.items()):
        items = {standing: [list(item) for item in task.items[standing]] for standing in STANDINGS}
        entries[name] = {"data": task.data_hash, **items}
    write_json(path, {"format": _FORMAT, "tasks": entries})


def read_contamination(path: Path) -> dict[str, TaskContamination]:
    """The tasks of a file that curation wrote, or of the artifact that it lies in.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    if path.is_dir():
        if not (path / CONTAMINATION).is_file():
            raise UserError(
                "this corpus was not searched for the items of benchmarks",
                where=path,
                fix="give its curate stage `decontamination: {tasks: [...]}`",
            )
        path /= CONTAMINATION
    value = read_json_object(path)
    if value.get("format") != _FORMAT or not isinstance(value.get("tasks"), dict):
        raise UserError(
            "this is not a file of contaminated items",
            where=path,
            fix=f"name the {CONTAMINATION} of a curate stage with `decontamination`",
        )
    return {name: _task(entry, path, name) for name, entry in value["tasks"].items()}


def _task(entry: Any, path: Path, name: str) -> TaskContamination:
    try:
        items = {
            standing: tuple((int(number), str(hash_)) for number, hash_ in entry[standing]) for standing in STANDINGS
        }
        return TaskContamination(str(entry["data"]), items)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the items of '{name}' are not listed as curation lists them: {error}", where=path, fix="curate again"
        ) from error
