"""Answers of a server, each in a file under the hash of its request; and what was spent on them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vernacular.corpus.synthetic.endpoint import Budget
from vernacular.corpus.synthetic.prompts import Request
from vernacular.foundation.allowance import Allowance
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import canonical_json, read_json_object, write_json

_SPENT = "spent.jsonl"


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        text: as the server gave it.
        finish: why it ends there: stop, length, or what the server says.
        tokens: of prompt and answer.
    """

    text: str
    finish: str
    tokens: int


class AnswerCache:
    """The answers below a folder. Files are written whole or not at all, so a killed run loses only what was under way.

    Args:
        folder: where they lie; made when the first is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, request: Request) -> bool:
        return self._path(request).is_file()

    def get(self, request: Request) -> Answer | None:
        """The answer to a request, or None.

        Raises:
            UserError: the file is not that of this request.
        """
        path = self._path(request)
        if not path.is_file():
            return None
        value = read_json_object(path)
        try:
            kept = canonical_json(value["request"]) == canonical_json(dict(request.body))
            answer = Answer(str(value["text"]), str(value["finish"]), int(value["tokens"]))
        except (KeyError, TypeError, ValueError):
            kept = False
        if not kept:
            raise UserError("this is not the answer to its request", where=path, fix="remove it; it is asked again")
        return answer

    def put(self, request: Request, answer: Answer) -> None:
        """Keep an answer."""
        value = {"request": dict(request.body), "text": answer.text, "finish": answer.finish, "tokens": answer.tokens}
        write_json(self._path(request), value)

    def _path(self, request: Request) -> Path:
        return self.folder / request.hash[:2] / f"{request.hash}.json"


class Spending:
    """What a source has cost, kept beside the answers, and what it still may.

    A request is entered before it is sent, its tokens once they are known: a kill forgets the tokens of those that were
    under way.

    Args:
        folder: of the cache.
        source: the source's name.
        budget: what may be spent.
    """

    def __init__(self, folder: Path, source: str, budget: Budget) -> None:
        self._path, self._source, self._budget = folder / _SPENT, source, budget
        entries = self._entries()
        self.requests = sum(int(entry["requests"]) for entry in entries)
        self._tokens = Allowance(budget.tokens, sum(int(entry["tokens"]) for entry in entries))

    @property
    def tokens(self) -> int:
        """Spent so far."""
        return self._tokens.used

    def _entries(self) -> list[Mapping[str, Any]]:
        if not self._path.is_file():
            return []
        # What a kill cut off at the end is no entry.
        whole = self._path.read_bytes().rpartition(b"\n")[0].splitlines()
        return [entry for entry in map(json.loads, whole) if entry["source"] == self._source]

    def begin(self, most_tokens: int) -> None:
        """Enter a request that can cost so many tokens; waits for those under way where they may leave enough.

        Raises:
            UserError: the budget does not allow it.
        """
        wanted = f"the next can cost {most_tokens:,}"
        self._tokens.reserve(most_tokens, lambda: self._used_up("tokens", self.tokens, self._budget.tokens, wanted))
        try:
            self.again()
        except UserError:
            self._tokens.settle(most_tokens, 0)
            raise

    def again(self) -> None:
        """Enter a request, or a further try of it.

        Raises:
            UserError: the budget does not allow it.
        """
        with self._tokens.changed:
            if self.requests + 1 > self._budget.requests:
                raise self._used_up("requests", self.requests, self._budget.requests, "more are wanted")
            self.requests += 1
            self._append(requests=1, tokens=0)

    def end(self, most_tokens: int, tokens: int) -> None:
        """Enter what a request did cost."""
        with self._tokens.changed:
            self._append(requests=0, tokens=tokens)
            self._tokens.settle(most_tokens, tokens)

    def _append(self, *, requests: int, tokens: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"source": self._source, "requests": requests, "tokens": tokens}) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def _used_up(self, what: str, spent: int, allowed: int, wanted: str) -> UserError:
        return UserError(
            f"the budget is used up: {spent:,} of {allowed:,} {what} are spent, and {wanted}",
            where=f"source '{self._source}': endpoint.budget.{what}",
            fix="raise it, or take fewer seeds; what was answered is kept",
        )
