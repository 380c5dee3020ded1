"""The filter of system calls, as the kernel's seccomp takes it: a program over each call's number and argument."""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import NamedTuple

import yaml

from vernacular.foundation.errors import MachineError

_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _JUMP_IF_ANY, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _PROCESSOR, _FIRST_ARGUMENT = 0, 4, 16
_OTHER_NUMBERING = 0x40000000
"""Calls of x86-64's 32-bit numbering begin here; aarch64 has none."""
_NAMESPACES = 0x7E020000
"""Flags of clone() that make a namespace."""
_UNIX = 1


class _Calls(NamedTuple):
    """A processor's numbers, as `syscalls.yaml` has them."""

    audit: int
    clone: int
    clone3: int
    socket: int
    denied: Mapping[str, int]


def filter_program() -> bytes:
    """Denied calls fail with EPERM, clone3 with ENOSYS (libraries then take clone), sockets but Unix's with EACCES."""
    table = yaml.safe_load((files("vernacular.evaluation.sandbox") / "syscalls.yaml").read_text(encoding="utf-8"))
    processor = platform.machine()
    if processor not in table:
        raise MachineError(
            f"the sandbox knows no system calls of the processor '{processor}'",
            where="code execution",
            fix=f"run it on one of: {', '.join(table)}",
        )
    return b"".join(struct.pack("<HBBI", *one) for one in _instructions(_Calls(**table[processor])))


def _instructions(calls: _Calls) -> Iterator[tuple[int, int, int, int]]:
    """(code, jump if so, jump if not, value): jumps count the instructions that are passed over."""
    yield _LOAD, 0, 0, _PROCESSOR
    yield _JUMP_IF_EQUAL, 1, 0, calls.audit
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, _NUMBER
    yield _JUMP_IF_AT_LEAST, 0, 1, _OTHER_NUMBERING
    yield _RETURN, 0, 0, _KILL
    for number in calls.denied.values():
        yield _JUMP_IF_EQUAL, 0, 1, number
        yield _RETURN, 0, 0, _FAIL | errno.EPERM
    yield _JUMP_IF_EQUAL, 0, 1, calls.clone3
    yield _RETURN, 0, 0, _FAIL | errno.ENOSYS
    yield _JUMP_IF_EQUAL, 0, 4, calls.clone
    yield _LOAD, 0, 0, _FIRST_ARGUMENT
    yield _JUMP_IF_ANY, 0, 1, _NAMESPACES
    yield _RETURN, 0, 0, _FAIL | errno.EPERM
    yield _RETURN, 0, 0, _ALLOW
    yield _JUMP_IF_EQUAL, 0, 3, calls.socket
    yield _LOAD, 0, 0, _FIRST_ARGUMENT
    yield _JUMP_IF_EQUAL, 1, 0, _UNIX
    yield _RETURN, 0, 0, _FAIL | errno.EACCES
    yield _RETURN, 0, 0, _ALLOW
