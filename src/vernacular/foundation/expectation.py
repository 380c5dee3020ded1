"""What a setting takes, in words, as its JSON schema has it: the types, the bounds, the choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

Schema = Mapping[str, Any]
_BOUNDS = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}


def expected(model: type[BaseModel], at: Sequence[str | int]) -> str | None:
    """What stands at a key path below a configuration, as in "a whole number of 1 or more"; None where all is taken.

    Args:
        model: the configuration.
        at: keys and positions below it.
    """
    root = model.model_json_schema()
    here: list[Schema] = [root]
    for part in at:
        here = [below for schema in here for one in _branches(schema, root) for below in _below(one, part)]
    words = [_words(one) for schema in here for one in _branches(schema, root) if one.get("type") != "null"]
    return " or ".join(dict.fromkeys(words)) if words and all(words) else None


def _branches(schema: Schema, root: Schema) -> Iterator[Schema]:
    """The schemas without unions and references that it is made of."""
    if "$ref" in schema:
        yield from _branches(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    elif inner := schema.get("anyOf") or schema.get("oneOf"):
        for one in inner:
            yield from _branches(one, root)
    else:
        yield schema


def _below(schema: Schema, part: str | int) -> Iterator[Schema]:
    """What stands below a key or a position."""
    if isinstance(part, int):
        first = schema.get("prefixItems", [])
        found = first[part] if part < len(first) else schema.get("items")
    else:
        found = schema.get("properties", {}).get(part, schema.get("additionalProperties"))
    if isinstance(found, Mapping):
        yield found


def _words(schema: Schema) -> str:
    if "enum" in schema or "const" in schema:
        *others, last = [repr(value) for value in schema.get("enum", [schema.get("const")])]
        return f"{', '.join(others)} or {last}" if others else last
    match schema.get("type"):
        case "integer":
            return _whole_number(schema)
        case "number":
            bounds = " and ".join(f"{word} {schema[key]:g}" for key, word in _BOUNDS.items() if key in schema)
            return f"a number that is {bounds}" if bounds else "a number"
        case "boolean":
            return "true or false"
        case "string":
            return "a path" if schema.get("format") == "path" else f"a text{_length(schema, 'Length', 'character')}"
        case "array":
            return f"a list{_length(schema, 'Items', 'entry')}"
        case "object":
            keys = ", ".join(f"{key}: …" for key in schema.get("required", ()))
            return f"a mapping of keys to values{f' such as {{{keys}}}' if keys else ''}"
    return ""


def _whole_number(schema: Schema) -> str:
    least = schema["exclusiveMinimum"] + 1 if "exclusiveMinimum" in schema else schema.get("minimum")
    most = schema["exclusiveMaximum"] - 1 if "exclusiveMaximum" in schema else schema.get("maximum")
    if least is None:
        return "a whole number" if most is None else f"a whole number of {most} or less"
    return f"a whole number of {least} or more" if most is None else f"a whole number from {least} to {most}"


def _length(schema: Schema, of: str, one: str) -> str:
    least = schema.get(f"min{of}", 0)
    many = {"entry": "entries"}.get(one, f"{one}s")
    return f" of at least {least} {one if least == 1 else many}" if least else ""
