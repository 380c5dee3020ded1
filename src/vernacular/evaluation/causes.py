"""Why two runs differ: everything in which they were not the same, less what only follows from something else here.

Other prompts follow from another number of examples, fewer items from a limit: such a consequence stands in the list
only where its cause does not. What cannot change an answer or a score (memory, keys, paths) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Run = Mapping[str, Any]
"""What `records/run.json` holds."""


class Cause(NamedTuple):
    """Something that was not the same in two runs.

    Attributes:
        what: template, shots, precision, version, …
        first: as it was in the first run.
        second: as it was in the second.
        tasks: those that it is about; none where it is about the whole run.
    """

    what: str
    first: str
    second: str
    tasks: tuple[str, ...] = ()


MODEL = ("weights", "tokenizer")
"""Where these differ, there are two models."""
_PRECISION = "precision"
_LABELS = {"dtype": _PRECISION, "limit": "limit (items of each task)"}
_SEEN_ELSEWHERE = {
    "template",  # whether it was applied
    "dtype",  # the model's
    "num_fewshot",  # the tasks' shots
    "only",  # which tasks both have
    "bert_score",  # the encoder's hash
    "bert_score_layer",
    "bert_score_idf",
    "judge",  # the judge's identity
    "judge_model",
    "judge_key_from",
    "judge_tokens",
    "allow_code_execution",
    "task_code",
}
_TASK_FACTS = {"version": "version", "num_fewshot": "shots", "kind": "kind", "metrics": "metrics", "code": "code"}
_MACHINE = ("processor", "system", "accelerators")
_NATIVE = "native"
"""Kernels whose answers depend neither on the batch nor on the number of cores."""


def causes(first: Run, second: Run) -> list[Cause]:
    """Everything in which two runs were not the same, what weighs most first: the model, then how it was asked."""
    return [
        *_of_the_model(first, second),
        *_of_the_template(first, second),
        *_of_the_tasks(first, second),
        *_of_the_settings(first, second),
        *_of_the_program(first, second),
    ]


def unexplained(first: Run, answers: int) -> Cause:
    """The cause of so many different answers where nothing that the record holds was different."""
    kernels = first["model"].get("kernels")
    if kernels == _NATIVE:
        why = "nothing: native kernels give the same bits in any batch, so this is a fault of ours; please report it"
        return Cause("unknown", why, f"{answers:,} answers are not the same")
    kind = f"{first['model'].get('backend')}, kernels {kernels}" if kernels else str(first["model"].get("backend"))
    why = f"with {kind} the last digits depend on what shares a batch, which no record holds"
    return Cause("batch", why, f"{answers:,} answers are not the same")


def are_one_model(found: list[Cause] | tuple[Cause, ...]) -> bool:
    """Whether both runs are of the same weights and tokenizer."""
    return not any(cause.what in MODEL for cause in found)


def _of_the_model(first: Run, second: Run) -> Iterator[Cause]:
    ours, theirs = first["model"], second["model"]
    names = [
        *MODEL,
        "backend",
        "dtype",
        *sorted((ours.keys() | theirs.keys()) - {*MODEL, "backend", "dtype", "template"}),
    ]
    for name in names:
        yield from _unless_equal(_LABELS.get(name, name), ours.get(name), theirs.get(name))


def _of_the_template(first: Run, second: Run) -> Iterator[Cause]:
    applied = [run["template"]["applied"] for run in (first, second)]
    if applied[0] != applied[1]:
        yield Cause("template", _applied(applied[0]), _applied(applied[1]))
    elif applied[0]:
        yield from _unless_equal("template's text", first["model"].get("template"), second["model"].get("template"))


def _applied(applied: bool) -> str:
    return "applied" if applied else "not applied"


def _of_the_settings(first: Run, second: Run) -> Iterator[Cause]:
    ours, theirs = first["settings"], second["settings"]
    for name in sorted((ours.keys() | theirs.keys()) - _SEEN_ELSEWHERE):
        yield from _unless_equal(_LABELS.get(name, name), ours.get(name), theirs.get(name))
    for name, label in (("bert_score", "encoder of BERTScore"), ("judge", "judge")):
        yield from _unless_equal(label, first.get(name), second.get(name))


def _of_the_tasks(first: Run, second: Run) -> Iterator[Cause]:
    """Differences of the tasks that both have; one that several tasks share stands once."""
    tasks: dict[tuple[str, str, str], list[str]] = {}
    for task in first["tasks"].keys() & second["tasks"].keys():
        for cause in _of_a_task(first, second, task):
            tasks.setdefault(cause[:3], []).append(task)
    for (what, ours, theirs), names in sorted(tasks.items()):
        yield Cause(what, ours, theirs, tuple(sorted(names)))


def _of_a_task(first: Run, second: Run, task: str) -> Iterator[Cause]:
    ours, theirs = first["tasks"][task], second["tasks"][task]
    found = [
        cause for name, label in _TASK_FACTS.items() for cause in _unless_equal(label, ours.get(name), theirs.get(name))
    ]
    for file in sorted(ours["files"].keys() | theirs["files"].keys()):
        found += _unless_equal(f"file {file}", ours["files"].get(file), theirs["files"].get(file))
    yield from found
    if found or first["template"]["applied"] != second["template"]["applied"]:
        return
    if any(first["settings"].get(name) != second["settings"].get(name) for name in ("limit", "seed")):
        return
    yield from _unless_equal("items", ours["items"], theirs["items"])
    yield from _unless_equal("prompts", ours["prompts_sha256"], theirs["prompts_sha256"])


def _of_the_program(first: Run, second: Run) -> Iterator[Cause]:
    ours, theirs = first["versions"], second["versions"]
    for name in sorted(ours.keys() | theirs.keys()):
        yield from _unless_equal(f"version of {name}", ours.get(name), theirs.get(name))
    if ours.get("vernacular") == theirs.get("vernacular"):
        yield from _unless_equal("version of vernacular's code", first.get("program"), second.get("program"))
    for name in _MACHINE if first["model"].get("kernels") == _NATIVE else (*_MACHINE, "cores"):
        yield from _unless_equal(name, first["machine"].get(name), second["machine"].get(name))


def _unless_equal(what: str, first: Any, second: Any) -> list[Cause]:
    return [] if first == second else [Cause(what, _shown(first), _shown(second))]


def in_short(identity: str) -> str:
    """The beginning of a hash; of a server, whose weights nobody has hashed, its name and address whole."""
    return identity[:12] if len(identity) == 64 else identity


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if in_short(text) == text else f"{in_short(text)}…"
