"""The examiner's side: runs the tests, asking a candidate that lives elsewhere for what they need of it.

The candidate can neither see the tests nor touch what runs them: it is sent arguments and sends back plain data. The
verdict goes out on a pipe that it does not have.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from vernacular.evaluation.code.within.values import decode, encode, receive, send

_MOST_WORDS = 400


class Failed(Exception):
    """An error of the candidate's own making, of a kind that Python does not have."""


class Conversation:
    """Asks the candidate, and gives back what it says or raises what it raised."""

    def __init__(self, source: BinaryIO, to: BinaryIO) -> None:
        self._source, self._to = source, to
        self.names = frozenset(self._result(receive(source)))

    def ask(self, do: str, of: str | int, *arguments: Any, **named: Any) -> Any:
        """Have an operation done on a name of the candidate's, or on a value of a number."""
        request = {
            "do": do,
            "of": of,
            "arguments": [encode(one, _number) for one in arguments],
            "named": {name: encode(one, _number) for name, one in named.items()},
        }
        send(self._to, request)
        reply = receive(self._source)
        value = self._result(reply)
        for place, now in reply.get("changed", {}).items():
            _change(arguments[int(place)], decode(now, self._kept))
        return value

    def _result(self, reply: Mapping[str, Any]) -> Any:
        if "error" in reply:
            kind, name, words = reply["error"]
            known = getattr(builtins, str(kind), None)
            if isinstance(known, type) and issubclass(known, Exception) and known is not AssertionError:
                try:
                    raised = known(words)
                except TypeError:
                    raised = Failed(f"{name}: {words}")
            else:
                raised = Failed(f"{name}: {words}")
            raise raised
        return decode(reply["value"], self._kept)

    def _kept(self, number: int) -> Foreign:
        return Foreign(self, number)


class Foreign:
    """A value that stays with the candidate. It is equal to itself alone."""

    def __init__(self, conversation: Conversation, of: int) -> None:
        object.__setattr__(self, "_asking", (conversation, of))

    def _ask(self, do: str, *arguments: Any, **named: Any) -> Any:
        conversation, of = object.__getattribute__(self, "_asking")
        return conversation.ask(do, of, *arguments, **named)

    def __call__(self, *arguments: Any, **named: Any) -> Any:  # noqa: D102 - as any function
        return self._ask("call", *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._ask("items"))

    def __len__(self) -> int:
        return int(self._ask("length"))

    def __str__(self) -> str:
        return str(self._ask("text"))

    def __bool__(self) -> bool:
        return bool(self._ask("truth"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Foreign) and self._asking[1] == other._asking[1]

    def __hash__(self) -> int:
        return hash(self._asking[1])


def _number(value: Any) -> int:
    """What a value of the candidate's is called there."""
    if isinstance(value, Foreign):
        return int(value._asking[1])
    raise TypeError(f"a {type(value).__name__} cannot be handed to the candidate")


def _change(argument: Any, now: Any) -> None:
    """Make an argument what the candidate made of it."""
    if isinstance(argument, list | bytearray):
        argument[:] = now
    elif isinstance(argument, dict | set):
        argument.clear()
        argument.update(now)


def main(helpers: str, test: str, entry_point: str) -> None:
    """Run the tests, and give the verdict on file descriptor 3.

    Args:
        helpers: code of the benchmark's own that the tests may use, such as its own solution.
        test: the tests; they pass if they end without an error.
        entry_point: the candidate's function; other names are the benchmark's, the library's, or then the candidate's.
    """
    source, to = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        _examine(source, to, helpers, test, entry_point)
        verdict: dict[str, Any] = {"passed": True}
    except Exception as error:  # noqa: BLE001 - whatever it is, the tests did not pass
        verdict = {"passed": False, "error": f"{type(error).__name__}: {error}"[:_MOST_WORDS]}
    os.write(3, json.dumps(verdict).encode())


def _examine(source: BinaryIO, to: BinaryIO, helpers: str, test: str, entry_point: str) -> None:
    conversation = Conversation(source, to)
    own: dict[str, Any] = {"__name__": "tests"}
    exec(compile(helpers, "question.py", "exec"), own)
    code = compile(test, "tests.py", "exec")
    for name in _names(code):
        if hasattr(builtins, name) or name in own:
            continue
        if name in sys.stdlib_module_names:
            own[name] = importlib.import_module(name)
        elif name in conversation.names:
            own[name] = conversation.ask("self", name)
    own[entry_point] = conversation.ask("self", entry_point)
    exec(code, own)


def _names(code: types.CodeType) -> set[str]:
    """Every name that code may look up outside of itself."""
    inner: list[types.CodeType] = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))
