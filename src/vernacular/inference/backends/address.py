"""What answers, in one line: `BACKEND:WHERE?setting=value&…`, or a weights folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from vernacular.foundation.errors import UserError, unknown_name

OURS = "vernacular"
LLAMA_CPP = "llama.cpp"
OPENAI = "openai"
VLLM = "vllm"
BACKENDS = (OURS, LLAMA_CPP, OPENAI, VLLM)

_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9._-]*):(.*)", re.DOTALL)


class Address(NamedTuple):
    """A back-end, where its model is (a folder, a file, a URL), and settings by name, as text."""

    backend: str
    where: str
    settings: Mapping[str, str]

    @property
    def weights(self) -> Path | None:
        """The folder of the weights, or of their tokenizer at least; None where the address names none."""
        if self.backend in (OURS, VLLM):
            return Path(self.where)
        named = self.settings.get("weights")
        return None if named is None else Path(named)


def read_address(text: str) -> Address:
    """Read an address. A path that exists is a weights folder for our own engine, whatever its name.

    In file names and values `%` and two hexadecimal digits stand for a byte, for those with `?`, `&`, `#` or `%`.

    Raises:
        UserError: unknown back-end, a setting without a value, or given twice.
    """
    named = _NAMED.fullmatch(text)
    if named is None or Path(text).exists():
        return Address(OURS, text, {})
    backend, rest = named[1], named[2]
    if backend not in BACKENDS:
        raise unknown_name("back-end", backend, BACKENDS, where=text)
    where, mark, query = rest.partition("?")
    if not where:
        raise UserError("the address names no model", where=text, fix=f"write {backend}:WHERE?setting=value")
    settings: dict[str, str] = {}
    for part in query.split("&") if mark else ():
        key, _, value = part.partition("=")
        if not key or not value:
            raise UserError(f"'{part}' is not a setting", where=text, fix="write setting=value, joined by &")
        if key in settings:
            raise UserError(f"the setting '{key}' stands twice", where=text, fix="keep one of them")
        settings[key] = unquote(value)
    return Address(backend, where if backend == OPENAI else unquote(where), settings)
