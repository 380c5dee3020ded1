"""Expressions that make the fields of a task of the fields of a record: Jinja's, sandboxed, with values of any type."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vernacular.foundation.errors import UserError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def after(text: str, prefix: str) -> str:
    """The text without a prefix that it must have."""
    if not text.startswith(prefix):
        raise ValueError(f"{text[:40]!r} does not start with {prefix!r}")
    return text[len(prefix) :]


def before(text: str, suffix: str) -> str:
    """The text without a suffix that it must have."""
    if not text.endswith(suffix):
        raise ValueError(f"{text[-40:]!r} does not end with {suffix!r}")
    return text[: -len(suffix)]


def find(text: str, pattern: str) -> str:
    """What a regular expression finds first, its last group; it must find something."""
    found = re.search(pattern, text, re.DOTALL)
    if found is None:
        raise ValueError(f"{text[:40]!r} does not hold {pattern!r}")
    return found[found.re.groups]


def split(text: str, separator: str) -> list[str]:
    """The stripped, non-empty parts of a text."""
    return [part.strip() for part in text.split(separator) if part.strip()]


def letters(choices: Sequence[Any]) -> list[str]:
    """A, B, C, … for as many choices."""
    return list(LETTERS[: len(choices)])


def listed(choices: Sequence[str], form: str = "{letter}. {choice}") -> str:
    """Choices as lines, each behind its letter."""
    return "\n".join(
        form.format(letter=letter, choice=choice) for letter, choice in zip(LETTERS, choices, strict=False)
    )


def unlisted(lines: str) -> list[str]:
    """The choices of lines that `listed` wrote."""
    return [re.sub(r"^[A-Z]\. ?", "", line) for line in lines.strip().split("\n")]


def side_by_side(**columns: Iterable[Any]) -> list[dict[str, Any]]:
    """Records of columns of equal length."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def shared_start(texts: Sequence[str]) -> str:
    """The words that all texts start with."""
    same = takewhile(lambda places: len(set(places)) == 1, zip(*texts, strict=False))
    return "".join(places[0] for places in same).rpartition(" ")[0]


def distinct(values: Sequence[Any]) -> list[Any]:
    """Each value once, in the order of its first occurrence."""
    return list(dict.fromkeys(values))


def tested(code: str, tests: Sequence[str]) -> str:
    """The Python function that code defines and tests call: the last one, where there are several."""
    named = re.findall(r"^def (\w+)", code, re.MULTILINE)
    found = [name for name in named if any(re.search(rf"\b{name}\b", test) for test in tests)]
    if not found:
        raise ValueError(f"the tests call none of {', '.join(named) or 'no function'}")
    return found[-1]


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "after": after,
    "before": before,
    "find": find,
    "split": split,
    "letters": letters,
    "listed": listed,
    "unlisted": unlisted,
    "side_by_side": side_by_side,
    "shared_start": shared_start,
    "distinct": distinct,
    "tested": tested,
}


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    environment.globals.update(FUNCTIONS)
    environment.filters.update(FUNCTIONS)
    return environment


@functools.lru_cache(maxsize=1024)
def compiled(expression: str) -> Callable[..., Any]:
    """The function of a record's fields that an expression is."""
    try:
        return _environment().compile_expression(expression, undefined_to_none=False)
    except jinja2.TemplateError as error:
        raise UserError(f"not an expression: {error}", where=expression) from error


def evaluated(expressions: Mapping[str, str], record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of named expressions over a record, which is `_` itself: its fields may have any names.

    Raises:
        ValueError: a field is missing, or not what the expression takes; the expression is named.
    """
    values = {}
    for name, expression in expressions.items():
        try:
            value = compiled(expression)(**record, _=record)
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{name}: {expression}: {error}") from error
        if isinstance(value, jinja2.Undefined):
            raise ValueError(f"{name}: {expression}: there is no such field")
        values[name] = value
    return values
