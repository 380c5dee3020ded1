"""The items of tasks as text to search a corpus for: what evaluation asks, under the hashes that its records have.

A question is cut where the template and the fields of its data meet, so that it is found where a corpus holds the data
in another form. The choices that it lists are left out: many questions have them in common with other text.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from lm_eval.utils import handle_non_serializable, hash_string

from vernacular.corpus.configuration import Decontamination
from vernacular.corpus.decontamination.benchmark import Benchmark, Item
from vernacular.evaluation.harness import all_choices, quiet
from vernacular.evaluation.library.loading import load_library_task
from vernacular.evaluation.suites.selection import select
from vernacular.evaluation.suites.suite import choose_tasks, read_suite
from vernacular.evaluation.tasks import LoadedTask, check_lines, find_tasks, load_task, only_tasks, task_errors
from vernacular.foundation.errors import UserError
from vernacular.foundation.progress import progress

_JSON_LINES = ("*.jsonl", "*.jsonl.gz")


def read_benchmarks(settings: Decontamination, sources: Sequence[Path]) -> list[Benchmark]:
    """The benchmarks that the settings name, in the order of their names.

    Args:
        settings: which tasks, and where their data lies.
        sources: what `settings.tasks` names: folders of harness YAML, YAML files, folders of JSON Lines; without any,
            the suite's built-in tasks are taken.

    Raises:
        UserError: a task or its data cannot be read, or two have one name.
    """
    tasks: dict[str, Path] = {}
    lines: dict[str, Path] = {}
    for source in sources:
        of_source = tasks if source.is_file() or any(source.rglob("*.yaml")) else lines
        found = find_tasks(source, ()) if of_source is tasks else _find_lines(source)
        for name in sorted(found.keys() & {*tasks, *lines}):
            raise UserError(f"two tasks are called '{name}'", where=found[name], fix="rename one")
        of_source |= found
    with tempfile.TemporaryDirectory(prefix="vernacular-tasks-") as cache, quiet():
        if not sources:
            return _of_library(settings)
        chosen = only_tasks({**tasks, **lines}, settings.only)
        if settings.suite is not None:
            of_suite = choose_tasks(read_suite(settings.suite), [name for name in chosen if name in tasks])
            chosen = {name: path for name, path in chosen.items() if name in lines or name in of_suite}
        shown = progress(chosen.items(), doing="reading benchmarks", total=len(chosen), unit="tasks")
        return [
            _of_lines(name, path, settings) if name in lines else _of_task(_load(name, path, settings, Path(cache)))
            for name, path in shown
        ]


def hash_of_item(doc: Any) -> str:
    """An item's hash, as the harness makes it for its records."""
    return hash_string(json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False))


def item_hashes(loaded: LoadedTask) -> list[str]:
    """The hashes of all of a task's items, in order."""
    with task_errors(loaded.name, loaded.path):
        return [hash_of_item(doc) for _, doc in loaded.task.doc_iterator()]


# ---------------------------------------------------------------------------------------------------- harness tasks


def _of_library(settings: Decontamination) -> list[Benchmark]:
    """The built-in tasks of a suite."""
    folder = None if settings.data is None else Path(settings.data)
    available = settings.only_available
    selection = select(read_suite(settings.suite or ""), folder, only=settings.only, only_available=available)
    entries = sorted((wanted.entry for wanted in selection.tasks), key=lambda entry: entry.name)
    shown = progress(entries, doing="reading benchmarks", total=len(entries), unit="tasks")
    return [_of_task(load_library_task(entry, num_fewshot=None, seed=0, folder=folder)) for entry in shown]


def _load(name: str, path: Path, settings: Decontamination, cache: Path) -> LoadedTask:
    data = None if settings.data is None else Path(settings.data)
    return load_task(name, path, num_fewshot=None, seed=0, code=settings.task_code, cache=cache, data=data)


def _of_task(loaded: LoadedTask) -> Benchmark:
    with task_errors(loaded.name, loaded.path):
        choices = all_choices(loaded, None)
        return Benchmark(
            loaded.name,
            tuple(
                Item(number, hash_of_item(doc), *_asked(loaded, doc, choices.get(number)))
                for number, doc in loaded.task.doc_iterator()
            ),
        )


def _asked(loaded: LoadedTask, doc: Mapping[str, Any], choices: Any) -> tuple[tuple[str, ...], str]:
    """The pieces of an item's question, and its right answer."""
    task = loaded.task
    target = task.doc_to_target(doc)
    if choices is not None and task.multiple_input:
        # The choices are what stands before, the target what follows on each.
        return pieces(f"{choices.texts[choices.right[0]]} {target}", doc), ""
    answer = choices.texts[choices.right[0]] if choices is not None else _first(target)
    question = str(task.doc_to_text(doc)) if loaded.kind != "loglikelihood_rolling" else ""
    return (pieces(question, doc), answer) if question.strip() else (pieces(answer, doc), "")


def _first(target: Any) -> str:
    return str(target[0] if isinstance(target, list | tuple) and target else target)


def pieces(text: str, doc: Mapping[str, Any]) -> tuple[str, ...]:
    """A text cut where the values of a record's fields begin and end in it; lists of values, the choices, left out."""
    marks = [0] * len(text)  # 0: of no field; -1: a choice; else the field's value by number
    choices = {value for value, listed in _values(doc) if listed}
    values = {value for value, _ in _values(doc)}
    for number, value in enumerate(sorted(values, key=lambda value: (-len(value), value)), start=1):
        at = text.find(value)
        while at >= 0:
            end = at + len(value)
            if _stands_alone(text, at, end) and not any(marks[at:end]):
                marks[at:end] = [-1 if value in choices else number] * len(value)
            at = text.find(value, end)
    cuts = [place for place in range(1, len(text)) if marks[place] != marks[place - 1]]
    bounds = zip([0, *cuts], [*cuts, len(text)], strict=True)
    found = (text[begin:end].strip() for begin, end in bounds if begin < end and marks[begin] >= 0)
    return tuple(piece for piece in found if piece)


def _values(value: Any, listed: bool = False) -> Iterator[tuple[str, bool]]:
    """The strings in a record, and whether each is one of a list of several."""
    if isinstance(value, str):
        if value.strip():
            yield value.strip(), listed
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _values(inner, listed)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _values(inner, len(value) > 1)


def _stands_alone(text: str, begin: int, end: int) -> bool:
    """Whether a stretch of a text is not part of a longer word."""
    before, after = text[begin - 1 : begin], text[end : end + 1]
    return not (before.isalnum() and text[begin].isalnum()) and not (after.isalnum() and text[end - 1].isalnum())


# -------------------------------------------------------------------------------------------------------- JSON Lines


def _find_lines(folder: Path) -> dict[str, Path]:
    """The files of JSON Lines below a folder, by their paths there without the extension."""
    found = {
        path.relative_to(folder).as_posix().split(".jsonl")[0]: path
        for pattern in _JSON_LINES
        for path in sorted(folder.rglob(pattern))
    }
    if not found:
        raise UserError("there are neither harness tasks nor JSON Lines here", where=folder, fix="check the path")
    return found


def _of_lines(name: str, path: Path, settings: Decontamination) -> Benchmark:
    """A file of JSON Lines as a benchmark: the harness reads its records in the same way."""
    check_lines(path)
    with task_errors(name, path):
        rows = datasets.load_dataset("json", data_files=str(path), split="train", keep_in_memory=True)
        return Benchmark(
            name, tuple(Item(number, hash_of_item(row), _texts(row, settings, path)) for number, row in enumerate(rows))
        )


def _texts(row: Mapping[str, Any], settings: Decontamination, path: Path) -> tuple[str, ...]:
    fields = settings.fields or tuple(row)
    for field in fields:
        if field not in row:
            raise UserError(
                f"the records have no field '{field}'",
                where=path,
                fix=f"name some of {', '.join(row)} in `decontamination.fields`",
            )
    values = list(_values({field: row[field] for field in fields}))
    return tuple(value for value, listed in values if not listed) or tuple(value for value, _ in values)
