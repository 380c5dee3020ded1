"""Calls of the Linux kernel that Python has no function for. Standard library only, as all that starts each time."""

from __future__ import annotations

import ctypes
import os

NEW_MOUNTS = 0x00020000
NEW_CGROUP = 0x02000000
NEW_NAMES = 0x04000000
NEW_IPC = 0x08000000
NEW_USER = 0x10000000
NEW_PIDS = 0x20000000
NEW_NETWORK = 0x40000000

READ_ONLY = 1
NO_SETUID = 2
NO_DEVICES = 4
NO_PROGRAMS = 8
REMOUNT = 32
BIND = 4096
DEEP = 16384
PRIVATE = 1 << 18
_DETACH = 2
_AT_RECURSIVE, _AT_HERE = 0x8000, -100
_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SET_PARENT_DEATH, _SET_DUMPABLE, _SET_SECCOMP, _DROP_CAPABILITY, _NO_NEW_PRIVILEGES = 1, 4, 22, 24, 38
_LAST_CAPABILITY = 63
_KILL = 9

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user")]


class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]


def _check(result: int, doing: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones."""
    _check(_libc.unshare(flags), "making namespaces")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """What the kernel calls the same: a source at a target, or a change of what is there."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(result, f"mounting {source} at {target}")


def freeze(target: str) -> None:
    """Make a mount and all below it read-only, without set-user-id programs and devices."""
    attributes = _Attributes(READ_ONLY | NO_SETUID | NO_DEVICES, 0, 0, 0)
    result = _libc.syscall(
        _MOUNT_SETATTR, _AT_HERE, target.encode(), _AT_RECURSIVE, ctypes.byref(attributes), ctypes.sizeof(attributes)
    )
    _check(result, f"making {target} read-only")


def change_root(folder: str) -> None:
    """Make a mount the root, and drop the old one out of reach."""
    os.chdir(folder)
    _check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), "changing the root")
    _check(_libc.umount2(b".", _DETACH), "leaving the old root")
    os.chdir("/")


def name_host(name: str) -> None:
    """Set the host's name in this namespace."""
    _check(_libc.sethostname(name.encode(), len(name)), "naming the host")


def die_with_parent() -> None:
    """Be killed when the parent ends. Changing the user undoes it."""
    _check(_libc.prctl(_SET_PARENT_DEATH, _KILL, 0, 0, 0), "tying the process to its parent")


def hide_memory() -> None:
    """Let no other process of the same user look into this one."""
    _check(_libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0), "hiding memory")


def drop_capabilities() -> None:
    """No program started from here on can gain a capability."""
    for number in range(_LAST_CAPABILITY + 1):
        if _libc.prctl(_DROP_CAPABILITY, number, 0, 0, 0) < 0:
            break
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "forbidding privileges")


def filter_system_calls(program: bytes) -> None:
    """Install a seccomp filter for good."""
    held = ctypes.create_string_buffer(program, len(program))
    filter_ = _Filter(len(program) // 8, ctypes.cast(held, ctypes.c_void_p))
    _check(_libc.prctl(_SET_SECCOMP, 2, ctypes.byref(filter_), 0, 0), "filtering system calls")
