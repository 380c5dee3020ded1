"""Values between a candidate and its examiner, as JSON: plain data only, so that neither can run the other's code.

What is no plain data stays where it is, and a number stands for it. A subclass crosses as what it is a subclass of:
whatever it makes of `==` stays behind. Standard library only: it runs in the sandbox.
"""

from __future__ import annotations

import builtins
import json
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, BinaryIO

MOST_BYTES = 16 << 20
"""Of a message: longer ones end the conversation."""
_MOST_ITEMS = 1_000_000
_EXACT_IN_JSON = 1 << 53

_TYPES = {kind.__name__: kind for kind in vars(builtins).values() if isinstance(kind, type)}
_SEQUENCES = {"tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}


def send(to: BinaryIO, message: Any) -> None:
    """Write a message: its length, then its JSON."""
    content = json.dumps(message).encode()
    to.write(len(content).to_bytes(8, "big") + content)
    to.flush()


def receive(source: BinaryIO) -> Any:
    """Read a message.

    Raises:
        EOFError: the other side is gone.
        ValueError: it does not keep to the form.
    """
    head = source.read(8)
    if len(head) < 8:
        raise EOFError("the other side ended")
    length = int.from_bytes(head, "big")
    if length > MOST_BYTES:
        raise ValueError("a message is too long")
    content = source.read(length)
    if len(content) < length:
        raise EOFError("the other side ended within a message")
    return json.loads(content)


def encode(value: Any, keep: Callable[[Any], int]) -> Any:
    """A value as JSON; `keep` gives the number of what stays here."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        number = int(value)
        return number if abs(number) < _EXACT_IN_JSON else {"int": hex(number)}
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list):
        return [encode(item, keep) for item in list.__iter__(value)]
    for name, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return {name: [encode(item, keep) for item in kind.__iter__(value)]}
    if isinstance(value, dict):
        pairs = [(key, dict.__getitem__(value, key)) for key in dict.__iter__(value)]
        return {"dict": [[encode(key, keep), encode(item, keep)] for key, item in pairs]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes | bytearray):
        return {type(value).__mro__[-2].__name__: bytes(value).hex()}
    if isinstance(value, range):
        return {"range": [hex(value.start), hex(value.stop), hex(value.step)]}
    if isinstance(value, Fraction | Decimal):
        return {"fraction" if isinstance(value, Fraction) else "decimal": str(value)}
    if isinstance(value, Iterator | type({}.keys()) | type({}.values()) | type({}.items())):
        return {"iterator": [encode(item, keep) for item in _bounded(value)]}
    if isinstance(value, type) and _TYPES.get(value.__name__) is value:
        return {"type": value.__name__}
    return {"kept": keep(value)}


def _bounded(items: Any) -> Iterator[Any]:
    for number, item in enumerate(items):
        if number == _MOST_ITEMS:
            raise OverflowError(f"an iterator gives more than {_MOST_ITEMS:,} items")
        yield item


def decode(value: Any, kept: Callable[[int], Any]) -> Any:
    """The value that `encode` made JSON of; `kept` gives what a number stands for."""
    if isinstance(value, list):
        return [decode(item, kept) for item in value]
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    if name in _SEQUENCES:
        return _SEQUENCES[name](decode(item, kept) for item in content)
    if name == "dict":
        return {decode(key, kept): decode(item, kept) for key, item in content}
    if name == "iterator":
        return iter(decode(content, kept))
    if name == "range":
        return range(*(int(part, 16) for part in content))
    if name == "kept":
        return kept(int(content))
    return _SCALARS[name](content)


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "complex": lambda parts: complex(*parts),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "fraction": Fraction,
    "decimal": Decimal,
    "type": lambda name: _TYPES[name],
}
