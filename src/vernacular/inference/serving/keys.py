"""API keys: where they come from, and whether a request carries one. They are held as hashes only."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_text

VARIABLE = "VERNACULAR_API_KEYS"


class ApiKeys:
    """The keys that are let in; with none, everybody is."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def read(cls, path: Path | None, environment: Mapping[str, str]) -> ApiKeys:
        """Keys of a file, one a line (# begins a comment), and of the variable VERNACULAR_API_KEYS, between commas.

        Raises:
            UserError: the file is missing or holds no key, or a key is not printable ASCII without blanks.
        """
        keys = [part.strip() for part in environment.get(VARIABLE, "").split(",") if part.strip()]
        _check(keys, VARIABLE)
        if path is not None:
            lines = [line.partition("#")[0].strip() for line in read_text(path).splitlines()]
            found = [line for line in lines if line]
            if not found:
                raise UserError("the file holds no key", where=path, fix="write one key a line")
            _check(found, path)
            keys += found
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def let_in(self, authorization: str | None) -> bool:
        """Whether the header `Authorization: Bearer KEY` names one of the keys; takes as long for a wrong one."""
        if not self._digests:
            return True
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(matches) and scheme.lower() == "bearer"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", errors="surrogateescape")).digest()


def _check(keys: list[str], where: str | Path) -> None:
    for number, key in enumerate(keys, start=1):
        if not (key.isascii() and key.isprintable()) or " " in key:
            # Its number, not the key: errors are printed and kept.
            raise UserError(
                f"key {number} holds a blank or a character beyond ASCII, which no header can carry",
                where=where,
                fix="use letters, digits and -_",
            )
