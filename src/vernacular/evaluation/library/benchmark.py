"""A benchmark as its YAML says it: where its items are, what form they have there, and the tasks over them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field, model_validator

from vernacular.evaluation.code.form import CodeForm
from vernacular.evaluation.judge.form import JudgeForm
from vernacular.foundation.configuration import Configuration, parse_yaml, validate
from vernacular.foundation.errors import UserError, unknown_name

FOLDER = "benchmarks"


class Part(Configuration):
    """A split, as files hold it."""

    file: str = Field(description="below the folder of --data")
    also: str | None = Field(None, description="the same file under another name, e.g. packed")
    reader: str | None = Field(None, description="a reader of readers.py (default: by the file's name)")
    fields: dict[str, str] | None = Field(None, description="the task's fields as expressions over a record's")
    only: dict[str, Any] = Field({}, description="only records whose fields have these values")
    each: str | None = Field(None, description="an expression that makes several records of one: a list of mappings")
    records: tuple[int, int | None] | None = Field(None, description="from this record to before that one, of those")


class Form(Configuration):
    """Another form in which a folder may hold the set."""

    splits: dict[str, Part]
    note: str = Field("", description="in what it is not the set itself: a part, fewer choices, other texts")
    stands_in: bool = Field(False, description="whether it is not the set at all, only something like it")


class DataSet(Configuration):
    """A set: on the Hub, in a folder in the Hub's form, or in a folder in forms of its own."""

    hub: str | None = Field(None, description="OWNER/SET on the Hugging Face Hub")
    config: str | None = Field(None, description="its configuration there")
    rename: dict[str, str] = Field({}, description="our name of a split: the Hub's, where they differ")
    fields: dict[str, str] | None = Field(None, description="the task's fields as expressions over the Hub's")
    each: str | None = Field(None, description="as a part's, over the Hub's records; an empty list leaves one out")
    distinct: tuple[str, ...] = Field((), description="fields that no two of the task's items share all of")
    origin: str = Field("", description="where else the set is published")
    forms: tuple[Form, ...] = ()

    @property
    def place(self) -> str:
        """OWNER/SET/CONFIG, the folder of the Hub's form; empty where the Hub does not have the set."""
        return "/".join(part for part in (self.hub, self.config) if part)


class Task(Configuration):
    """A task: harness YAML of ours, or the harness's own with changes."""

    upstream: str | None = Field(None, description="YAML file below lm_eval/tasks, of the pinned version")
    data: str | None = Field(None, description="the name of its set (default: the only one)")
    config: dict[str, Any] = Field({}, description="the harness's keys; they go before upstream's")
    language: str | None = Field(None, description="BCP 47")
    chance: float | None = Field(None, ge=0, le=1, description="share that guessing gets right")
    version: str = Field("1", description="of the task; goes up whenever its numbers can change")
    metrics: tuple[str | dict[str, Any], ...] = Field((), description="our metrics beside the harness's, with options")
    facts: tuple[str, ...] = Field((), description="fields of the item that the metrics need in the record")
    code: CodeForm | None = Field(None, description="how the answers are run, where they are programs")
    judge: JudgeForm | None = Field(None, description="where a judge finds what it grades, where one does")


class Benchmark(Configuration):
    """A file of the library."""

    about: str = Field(description="what it is, where the definition comes from, what is not known")
    each: dict[str, dict[str, Any]] = Field(
        {}, description="made once for each key; ${key} stands for it, ${word} for its words, here or in words.yaml"
    )
    data: dict[str, DataSet] = Field(description="its sets, by name")
    tasks: dict[str, Task] = Field(description="its tasks, by name")

    @model_validator(mode="after")
    def _sets_exist(self) -> Benchmark:
        for name, task in self.tasks.items():
            if (task.data is None and len(self.data) != 1) or (task.data is not None and task.data not in self.data):
                raise ValueError(f"the task '{name}' names no set of {', '.join(self.data)}")
        return self


class LibraryTask(NamedTuple):
    """A task of the library and its set.

    Attributes:
        name: its name.
        task: what it is.
        data: its set.
        file: the YAML that says so, or the file of text that it is made of.
        folder: where its set is, whatever --data says.
    """

    name: str
    task: Task
    data: DataSet
    file: str
    folder: Path | None = None


@functools.cache
def library() -> Mapping[str, LibraryTask]:
    """All tasks of the library, by name."""
    found: dict[str, LibraryTask] = {}
    for entry in sorted((files(__package__) / FOLDER).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            for task in read_benchmark(entry.name, entry.read_text(encoding="utf-8")):
                if task.name in found:
                    raise UserError(f"the task '{task.name}' is in {found[task.name].file} too", where=entry.name)
                found[task.name] = task
    return found


def find_task(name: str) -> LibraryTask:
    """A task of the library."""
    if name not in library():
        raise unknown_name("task of the library", name, library(), where="--suite")
    return library()[name]


def read_benchmark(name: str, text: str) -> list[LibraryTask]:
    """The tasks of a benchmark's YAML."""
    document = parse_yaml(text)
    whole = document.value
    variants = whole.pop("each", None) or {}
    if isinstance(variants, list):
        variants = {str(key): {} for key in variants}
    common, own = _separate(whole, bool(variants))
    benchmarks = [validate(Benchmark, common, document)] if common["tasks"] else []
    for key, words in variants.items():
        filled = _filled(own, {"key": key, **_words().get(key, {}), **(words or {})}, name)
        benchmarks.append(validate(Benchmark, {**filled, "data": {**common["data"], **filled["data"]}}, document))
    return [
        LibraryTask(task_name, task, benchmark.data[task.data or next(iter(benchmark.data))], name)
        for benchmark in benchmarks
        for task_name, task in benchmark.tasks.items()
    ]


@functools.cache
def _words() -> Mapping[str, Mapping[str, str]]:
    """The words of prompts, by language."""
    found: Mapping[str, Mapping[str, str]] = yaml.safe_load(
        (files(__package__) / "words.yaml").read_text(encoding="utf-8")
    )
    return found


def _separate(whole: Mapping[str, Any], variants: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is there once, and what for each variant: that whose name holds a placeholder."""
    common: dict[str, Any] = {**whole, "data": {}, "tasks": {}}
    own: dict[str, Any] = {**whole, "data": {}, "tasks": {}}
    for kind in ("data", "tasks"):
        for key, value in whole[kind].items():
            (own if variants and "${" in key else common)[kind][key] = value
    return common, own


def _filled(value: Any, words: Mapping[str, Any], file: str) -> Any:
    """The value with each `${word}` replaced; a value that is nothing but one becomes the word's own."""
    if isinstance(value, Mapping):
        return {_filled(key, words, file): _filled(inner, words, file) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, words, file) for inner in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    for word, replacement in words.items():
        if value == f"${{{word}}}":
            return replacement
        value = value.replace(f"${{{word}}}", str(replacement))
    if "${" in value:
        raise UserError(f"nothing stands for {value[value.index('${') :][:30]!r}", where=file)
    return value
