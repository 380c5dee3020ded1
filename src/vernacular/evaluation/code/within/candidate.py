"""The candidate's side: loads the code that a model wrote, and does with it what the examiner asks."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from vernacular.evaluation.code.within.values import decode, encode, receive, send

_MOST_WORDS = 400


class Kept:
    """Values that stay on this side, by number."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def keep(self, value: Any) -> int:
        """Its number: the same for the same value."""
        for number, known in enumerate(self.values):
            if known is value:
                return number
        self.values.append(value)
        return len(self.values) - 1


def main(source: str) -> None:
    """Load `source`, then answer until the examiner is done.

    Its own standard input is empty, and what it prints goes to standard error: the real two carry the conversation.
    """
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    kept = Kept()
    try:
        exec(compile(source, "candidate.py", "exec"), module.__dict__)
    except BaseException as error:  # noqa: BLE001 - whatever the candidate raises is its answer
        send(answers, _error(error))
        return
    send(answers, {"value": [name for name in list(vars(module)) if isinstance(name, str)]})
    while True:
        try:
            request = receive(asked)
        except EOFError:
            return
        try:
            answer = _answer(request, module, kept)
        except BaseException as error:  # noqa: BLE001 - as above
            answer = _error(error)
        send(answers, answer)


def _answer(request: Mapping[str, Any], module: types.ModuleType, kept: Kept) -> dict[str, Any]:
    """Do one thing with a name of the module, or with a value that was kept."""
    at = request["of"]
    subject = getattr(module, at) if isinstance(at, str) else kept.values[at]
    arguments = [decode(one, kept.values.__getitem__) for one in request["arguments"]]
    named = {name: decode(one, kept.values.__getitem__) for name, one in request["named"].items()}
    before = [encode(one, kept.keep) for one in arguments]
    value = encode(_OPERATIONS[request["do"]](subject, *arguments, **named), kept.keep)
    after = [encode(one, kept.keep) for one in arguments]
    changed = {str(place): now for place, now in enumerate(after) if now != before[place]}
    return {"value": value, "changed": changed}


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda subject, *arguments, **named: subject(*arguments, **named),
    "get": getattr,
    "set": setattr,
    "item": lambda subject, key: subject[key],
    "items": lambda subject: iter(subject),
    "length": len,
    "text": str,
    "truth": bool,
    "self": lambda subject: subject,
}


def _error(error: BaseException) -> dict[str, Any]:
    kind = next(one.__name__ for one in type(error).__mro__ if one.__module__ == "builtins")
    try:
        words = str(error)[:_MOST_WORDS]
    except BaseException:  # noqa: BLE001 - its words are the candidate's code too
        words = ""
    return {"error": [kind, type(error).__name__, words]}
