"""Configuration: immutable pydantic models, YAML with line numbers, dotted overrides, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from vernacular.foundation.errors import UserError
from vernacular.foundation.explanation import KeyPath, explain
from vernacular.foundation.files import read_text

# `Field(…, json_schema_extra=NEUTRAL)`: a setting of what is watched or kept, or how the work is done, never of what
# comes out. Changing it makes nothing anew.
NEUTRAL: dict[str, JsonValue] = {"changes_result": False}


_MOST = 2**63 - 1
_BOUNDS = {"le": _MOST, "ge": -_MOST}


class Configuration(BaseModel):
    """Base of every configuration: frozen, no unknown keys, every field documented by its `Field(description=…)`.

    Numbers are finite, whole ones fit into 64 bits, and true is none, though Python takes it for 1.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_numbers(cls, values: Any) -> Any:
        given = values.items() if isinstance(values, Mapping) else ()
        wrong = [
            InitErrorDetails(type=problem, loc=(key,), input=value, ctx=_BOUNDS)
            for key, value in given
            if (problem := cls._problem(key, value))
        ]
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return values

    @classmethod
    def _problem(cls, key: str, value: Any) -> str | None:
        """What is wrong with a number that pydantic would take, as pydantic calls it."""
        if not isinstance(value, int) or key not in cls.model_fields:
            return None
        kinds = _kinds(cls.model_fields[key].annotation)
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            return "int_type" if int in kinds else "float_type"
        if abs(value) > _MOST and int in kinds and float not in kinds:
            return "less_than_equal" if value > 0 else "greater_than_equal"
        return None

    def decisive_settings(self) -> dict[str, Any]:
        """The settings that can change the result, as JSON values; those marked `NEUTRAL` are left out."""
        decisive: dict[str, Any] = {}
        for key, value in self.model_dump(mode="json").items():
            extra, own = type(self).model_fields[key].json_schema_extra, getattr(self, key)
            if isinstance(extra, dict) and extra.get("changes_result") is False:
                continue
            decisive[key] = _decisive(own, value)
        return decisive


def _kinds(annotation: Any) -> set[Any]:
    """The types whose values a setting takes, those of its choices among them."""
    if get_origin(annotation) is Literal:
        return {type(choice) for choice in get_args(annotation)}
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*(_kinds(inner) for inner in get_args(annotation)))
    return {annotation}


def _decisive(own: Any, value: Any) -> Any:
    """A setting's value (as JSON) without what does not count in configurations below it."""
    if isinstance(own, Configuration):
        return own.decisive_settings()
    if isinstance(own, tuple):
        return [_decisive(inner, each) for inner, each in zip(own, value, strict=True)]
    return value


Model = TypeVar("Model", bound=BaseModel)


class Document:
    """A YAML document and the line on which each of its keys stands."""

    def __init__(self, value: dict[str, Any], lines: dict[KeyPath, int], path: Path | None) -> None:
        self.value = value
        self.lines = lines
        self.path = path
        self.overrides: dict[KeyPath, str] = {}
        """What was put over it from the command line, in words: an error there is no error of the file."""

    def where(self, key_path: KeyPath) -> str:
        """`file:line (key)` of the innermost part of `key_path` that stands in the file, or the override it is from."""
        if not key_path:
            return str(self.path)
        dotted = ".".join(str(part) for part in key_path)
        for length in range(len(key_path), 0, -1):
            if key_path[:length] in self.overrides:
                override = f"override {self.overrides[key_path[:length]]}"
                return override if length == len(key_path) else f"{override} ({dotted})"
            line = self.lines.get(key_path[:length])
            if line is not None and self.path is not None:
                return f"{self.path}:{line} ({dotted})"
        return f"{self.path} ({dotted})" if self.path else dotted


def read_yaml(path: str | Path) -> Document:
    """Read a YAML mapping; errors name file, line and column. Duplicate keys are refused."""
    path = Path(path)
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: Path | None = None) -> Document:
    """As `read_yaml`, from a string."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[KeyPath, int] = {}
        if node is not None:
            _collect_lines(node, (), lines, path)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        fix = "mend it there or just before: a bracket, a quotation mark, the blanks at the line's beginning"
        raise UserError(f"not valid YAML: {error.problem}", where=place, fix=fix) from error
    if not isinstance(value, dict):
        raise UserError("expected a mapping of keys to values", where=path, fix="start with `name: …`")
    return Document(value, lines, path)


def _collect_lines(node: yaml.Node, at: KeyPath, lines: dict[KeyPath, int], path: Path | None) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            here = (*at, str(key.value))
            line = key.start_mark.line + 1
            if here in lines:
                raise UserError(f"the key '{key.value}' stands twice", where=f"{path}:{line}", fix="keep one of them")
            lines[here] = line
            _collect_lines(child, here, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            lines[(*at, position)] = child.start_mark.line + 1
            _collect_lines(child, (*at, position), lines, path)


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """Split `stages.base.steps=200` into its key path and its value, the value read as YAML."""
    key, separator, raw = text.partition("=")
    if not separator or not key.strip():
        raise UserError(f"'{text}' is not an override", fix="write KEY=VALUE, e.g. stages.base.steps=200")
    try:
        value = yaml.safe_load(raw) if raw else ""
    except yaml.YAMLError as error:
        raise UserError(f"the value of '{key}' is not valid YAML: {raw}", where=f"override {text}") from error
    parts: KeyPath = tuple(int(part) if part.isdigit() else part for part in key.strip().split("."))
    return parts, value


def apply_override(value: dict[str, Any], key_path: KeyPath, new: Any) -> dict[str, Any]:
    """A copy of `value` with `new` at `key_path`; parents that do not exist are made (and validated later)."""
    head, *rest = key_path
    if isinstance(value, list):
        if not isinstance(head, int) or head >= len(value):
            raise UserError(f"'{head}' is not a position in a list of {len(value)}", where="override")
        copy: Any = list(value)
    else:
        copy = dict(value)
        head = str(head)
    if rest:
        inner = copy[head] if not isinstance(copy, dict) else copy.get(head, {})
        if not isinstance(inner, dict | list):
            dotted = ".".join(str(part) for part in key_path)
            raise UserError(f"'{head}' is a value, so nothing can stand below it", where=f"override {dotted}")
        copy[head] = apply_override(inner, tuple(rest), new)  # type: ignore[arg-type]
    else:
        copy[head] = new
    return copy


def validate_flags(model: type[Model], value: Any) -> Model:
    """As `validate`, of settings that stand on the command line: the problem's place is the flag."""
    try:
        return model.model_validate(value)
    except ValidationError as error:

        def where(location: KeyPath) -> str:
            return f"--{str(location[0]).replace('_', '-')}" if location else "the command line"

        raise explain(model, error, value, where) from error


def validate(model: type[Model], value: Any, document: Document | None = None, at: KeyPath = ()) -> Model:
    """Build `model` from `value`; the first problem is a `UserError` naming key, file, line and nearest key."""
    try:
        return model.model_validate(value)
    except ValidationError as error:

        def where(location: KeyPath) -> str:
            key_path = (*at, *location)
            return document.where(key_path) if document else ".".join(str(part) for part in key_path)

        raise explain(model, error, value, where) from error
