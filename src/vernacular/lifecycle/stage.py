"""What every stage of a recipe is: settings, the artifacts it reads, and one act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vernacular.foundation.artifact import is_finished
from vernacular.foundation.configuration import Configuration
from vernacular.foundation.errors import UserError


@dataclass(frozen=True)
class Reads:
    """Marks a setting whose value names an artifact: another stage of the recipe, or a path.

    Attributes:
        what: what is taken from it, in words, for errors and the schema.
        elsewhere: whether an address such as s3://bucket/folder will do too.
        made_by: what a stage does that makes it; empty where it may be of any.
    """

    what: str
    elsewhere: bool = False
    made_by: tuple[str, ...] = ()


WEIGHTS = ("pretrain", "sft", "merge", "change-tokenizer", "publish")
"""What a stage does that makes weights."""
TOKENIZERS = ("train-tokenizer", "extend-tokenizer", "trim-tokenizer", *WEIGHTS)
"""What a stage does in whose folder a tokenizer lies."""


@dataclass(frozen=True)
class Workplace:
    """Where a stage works.

    Attributes:
        name: the stage's name in its recipe.
        folder: its own folder; everything it writes lies below.
        inputs: the folder or file behind each `Reads` setting that was given.
        ancestry: all finished artifacts it descends from, oldest first: (stage name, folder).
    """

    name: str
    folder: Path
    inputs: Mapping[str, Path]
    ancestry: tuple[tuple[str, Path], ...]


def tasks_below(place: Path) -> Path:
    """The folder of harness tasks that an artifact holds; a folder or file that is no artifact, as it is.

    Raises:
        UserError: the artifact has no tasks.
    """
    if not is_finished(place):
        return place
    if not (place / "tasks").is_dir():
        raise UserError(
            "none of this curated corpus's sources gives tasks",
            where=place,
            fix="set tasks to a folder of harness YAML, or leave it out",
        )
    return place / "tasks"


class Stage(Configuration):
    """Base of all stages. A subclass adds `do: Literal["verb"]`, its room's configuration and `Reads` settings."""

    do: str

    version: ClassVar[int] = 1
    """Raised when the same settings and inputs come to give another result, so that artifacts are made anew."""

    continues: ClassVar[bool] = False
    """Whether a killed stage goes on from what lies in its folder; otherwise it begins again in an empty one."""

    shared: ClassVar[bool] = False
    """Whether all processes of the run do it together; otherwise the first does it and the others wait."""

    def check(self) -> None:
        """Refuse settings that would be found wrong only when the stage runs, which may be hours after the start.

        Raises:
            UserError: its place is the key below the stage, as `filters.families`.
        """

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Do it: write everything below `workplace.folder`; return the summary for `artifact.json`."""
        raise NotImplementedError

    def forget(self, workplace: Workplace) -> None:
        """Remove what it keeps outside its folder in order to go on: before it begins anew, and once it is done."""

    def mirror(self, address: str, below: Path) -> Path:
        """A folder below `below` that stands for the artifact at an address."""
        raise NotImplementedError

    def reads_elsewhere(self, key: str) -> bool:
        """Whether a reference may be an address; by its key, as `references` gives it."""
        return (mark := self.mark(key)) is not None and mark.elsewhere

    def mark(self, key: str) -> Reads | None:
        """The mark of a reference's setting, by its key, as `references` gives it."""
        marks = type(self).model_fields[key.split(".")[0]].metadata
        return next((mark for mark in marks if isinstance(mark, Reads)), None)

    def references(self) -> dict[str, str]:
        """The value of each `Reads` setting that is given, by its key; of a list, by `KEY.0`, `KEY.1` and so on."""
        found: dict[str, str] = {}
        for key in self._reading_keys():
            value = getattr(self, key)
            if isinstance(value, str):
                found[key] = value
            elif value is not None:
                found |= {f"{key}.{place}": one for place, one in enumerate(value)}
        return found

    def outside_files(self) -> list[str]:
        """Paths and patterns of files read directly, not through a `Reads` setting."""
        return []

    def settings(self) -> dict[str, Any]:
        """The resolved configuration as JSON values, references left out."""
        given = {key for key in self._reading_keys() if getattr(self, key) is not None}
        return self.model_dump(mode="json", exclude=given)

    @classmethod
    def _reading_keys(cls) -> list[str]:
        return [
            key for key, field in cls.model_fields.items() if any(isinstance(mark, Reads) for mark in field.metadata)
        ]

    def decisive_settings(self) -> dict[str, Any]:
        """As of every configuration; references left out, for what they name counts by its content."""
        return {key: value for key, value in super().decisive_settings().items() if key not in self.references()}
