"""JSON that comes from outside, read strictly: what cannot be written back as UTF-8 JSON is refused."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from vernacular.foundation.errors import UserError

_MAYBE_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(content: bytes) -> Any:
    """The value that `content` is the JSON text of.

    Raises:
        UserError: it is not UTF-8, not JSON, nested too deeply, names a key twice, or holds NaN, infinity or half a
            surrogate pair.
    """
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object)
        if _MAYBE_HALF_PAIR.search(content):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"not valid UTF-8 at byte {error.start}", fix="write it as UTF-8") from error
    except UnicodeEncodeError as error:
        raise UserError(
            "it holds half a surrogate pair, which is not a character", fix="repair the text's encoding"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(f"not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise UserError("the JSON is nested too deeply") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"the key '{twice}' stands twice", fix="keep one of them")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise UserError(f"{name} is not JSON")
