"""What pydantic finds wrong with a value, in plain words and at the key where it stands in the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from vernacular.foundation.errors import UserError, nearest
from vernacular.foundation.expectation import expected

KeyPath = tuple[str | int, ...]

_NUMBER, _WHOLE, _TRUTH, _TEXT, _LIST, _MAPPING = (
    "a number", "a whole number", "true or false", "a text", "a list", "a mapping of keys to values"
)  # fmt: skip
_NEEDED = {
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), _WHOLE),
    **dict.fromkeys(("bool_type", "bool_parsing"), _TRUTH),
    **dict.fromkeys(("string_type", "string_sub_type", "string_unicode"), _TEXT),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"), _LIST),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), _MAPPING),
    "finite_number": "a finite number",
    "none_required": "null",
    "path_type": "a path",
}
_LIMITS = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "string_pattern_mismatch": "must match the pattern {pattern}",
}
_LENGTHS = {
    "too_short": ("at least", "min_length", "entry", "entries"),
    "too_long": ("at most", "max_length", "entry", "entries"),
    "string_too_short": ("at least", "min_length", "character", "characters"),
    "string_too_long": ("at most", "max_length", "character", "characters"),
}
# How pydantic names the branches of a union in a location: by type, by class, or by what wraps them.
_BRANCH = re.compile(r"str|int|float|bool|none|bytes|path|date|datetime|url|any|[A-Z]\w*|.*[\[(].*|[a-z]+(-[a-z]+)+")
_MOST_SHOWN = 80


class _Problem(NamedTuple):
    """One of pydantic's errors; `at` is its location without the branches, `point` where the first union on it is."""

    kind: str
    at: KeyPath
    point: KeyPath | None
    error: Mapping[str, Any]


def explain(model: type[BaseModel], error: ValidationError, value: Any, where: Callable[[KeyPath], str]) -> UserError:
    """The first problem as a `UserError` naming the key and, where one is unknown, the nearest.

    Args:
        model: what was to be built.
        error: what pydantic raised.
        value: what it was to be built of.
        where: the place of a key path below `value`, for people.
    """
    problems = [_located(problem, value) for problem in error.errors()]
    first = next((problem for problem in problems if problem.kind == "extra_forbidden"), problems[0])
    branches = [first]
    if first.point is not None and first.kind != "extra_forbidden":
        branches = _closest([problem for problem in problems if problem.at[: len(first.point)] == first.point])
        first = branches[0]
    place = where(first.at)
    if first.kind == "extra_forbidden":
        known = _known_keys(model, first.error["loc"][:-1])
        name = str(first.at[-1])
        close = nearest(name, known)
        listed = f"known keys: {', '.join(sorted(known))}" if known else None
        return UserError(
            f"unknown key '{name}'", where=place, fix=f"did you mean '{close}'? {listed}" if close else listed
        )
    if first.kind == "missing":
        return UserError(f"the key '{first.at[-1]}' is missing", where=place, fix=f"add `{first.at[-1]}: …`")
    return UserError(_sentence(branches), where=place, fix=_fix(model, first))


def _located(error: Mapping[str, Any], value: Any) -> _Problem:
    """Follow the error's location into the value: what is neither a key nor a position there is a union's branch."""
    at: list[str | int] = []
    point: KeyPath | None = None
    here = value
    for number, part in enumerate(error["loc"]):
        is_last = number == len(error["loc"]) - 1
        if part in (inner := parts_of(here)):
            here = inner[part]
        elif isinstance(part, int) or (is_last and error["type"] == "missing") or not _BRANCH.fullmatch(part):
            here = None
        else:
            point = tuple(at) if point is None else point
            continue
        at.append(part)
    return _Problem(error["type"], tuple(at), point, error)


def parts_of(value: Any) -> Mapping[Any, Any]:
    """What stands below a value, by key or position."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return dict(value)
    return dict(enumerate(value)) if isinstance(value, list | tuple) else {}


def _closest(branches: list[_Problem]) -> list[_Problem]:
    """Of a union's branches those that came furthest; before a wrong kind of value, a value of the right kind."""
    depth = max(len(branch.at) for branch in branches)
    deepest = [branch for branch in branches if len(branch.at) == depth]
    right_kind = [branch for branch in deepest if branch.kind not in _NEEDED]
    return right_kind[:1] or [branch for branch in deepest if branch.at == deepest[0].at]


def _sentence(branches: Sequence[_Problem]) -> str:
    first = branches[0]
    context = first.error.get("ctx", {})
    given = first.error.get("input")
    if first.kind in _NEEDED:
        needed = list(dict.fromkeys(_NEEDED[branch.kind] for branch in branches if branch.kind != "none_required"))
        return f"{' or '.join(needed or ['null'])} is needed, not {_shown(given)}"
    if first.kind in _LIMITS:
        return f"{_LIMITS[first.kind].format(**context)}, not {_shown(given)}"
    if first.kind in _LENGTHS:
        bound, limit, one, many = _LENGTHS[first.kind]
        return f"must have {bound} {context[limit]} {one if context[limit] == 1 else many}, not {len(given or ())}"
    cause = context.get("error")
    if first.kind == "value_error" and isinstance(cause, Exception) and cause.args:
        return str(cause.args[0])
    return f"{first.error['msg']} (given: {_shown(given)})"


def _fix(model: type[BaseModel], problem: _Problem) -> str | None:
    """What to give instead: of a wrong type or beyond a bound by the schema; a validator says it as second argument."""
    cause = problem.error.get("ctx", {}).get("error")
    if isinstance(cause, ValueError):
        return str(cause.args[1]) if len(cause.args) > 1 else None
    if problem.kind not in (*_NEEDED, *_LIMITS, *_LENGTHS):
        return None
    words = expected(model, problem.at)
    if isinstance(problem.error.get("input"), bool) and words == _TEXT:
        return "put it in quotation marks: YAML reads yes, no, on and off as true or false"
    return f"give {words}" if words else None


def _shown(value: Any) -> str:
    """As it stands in YAML and JSON, cut where it is long."""
    words = {None: "null", True: "true", False: "false"}
    shown = words[value] if value is None or isinstance(value, bool) else repr(value)
    return shown if len(shown) < _MOST_SHOWN else shown[: _MOST_SHOWN - 3] + "…"


def _known_keys(model: type[BaseModel], location: KeyPath) -> set[str]:
    """Field names of the (possibly nested) model at `location`; tags of unions in the path are stepped over."""
    here: list[Any] = [model]
    for part in location:
        following: list[Any] = []
        for candidate in here:
            fields = getattr(candidate, "model_fields", {})
            if part in fields:
                following.extend(_models_in(fields[part].annotation))
        here = following or here
    return {name for candidate in here for name in getattr(candidate, "model_fields", {})}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments: Iterable[Any] = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _models_in(argument)]
