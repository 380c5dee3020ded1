"""Runs programs that nobody has read, each in a sandbox of its own, and says how each ended.

Linux namespaces hold it: no network, a read-only root with nothing but the tools it needs, its own processes, its own
user; seccomp takes the calls that reach further. Where the machine allows none of that, it is refused.
"""

from __future__ import annotations

import marshal
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from vernacular.evaluation.sandbox.limits import Ending, Limits
from vernacular.evaluation.sandbox.running import Running, finish
from vernacular.evaluation.sandbox.system_calls import filter_program
from vernacular.foundation.errors import InternalError, MachineError

_USERS = (0x40000000, 0x7F000000)
"""Users that no machine has; one of them for each sandbox that root makes."""
_USER_WITHIN = 1000
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_PASSWORDS = b"candidate:x:%d:%d::/scratch:/bin/false\n"
_PIPE_BYTES = 1 << 16
_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_FILES: Mapping[str, bytes] = MappingProxyType({})
_DOOR = (
    "import sys; sys.path.insert(0, {path!r}); from vernacular.evaluation.sandbox.cell import main; "
    "main(*map(int, sys.argv[1:]))"
)


class Program(NamedTuple):
    """What is run.

    Attributes:
        command: the program and its arguments, by absolute paths within the sandbox.
        files: by absolute path within the sandbox; read-only.
        environment: all of it.
    """

    command: tuple[str, ...]
    files: Mapping[str, bytes] = _NO_FILES
    environment: Mapping[str, str] = _NOTHING


class Streams(NamedTuple):
    """File descriptors for a program's standard input and output; None: nothing to read, output is kept."""

    stdin: int | None = None
    stdout: int | None = None


class Sandbox:
    """A place for programs; any number of threads may use it at once. Use it as a context manager.

    Args:
        tools: folders and files outside the system's own that programs need, shown read-only at their own paths.
    """

    def __init__(self, tools: Sequence[Path] = ()) -> None:
        if sys.platform != "linux":
            raise MachineError(
                f"generated code is run in namespaces of Linux, and this is {sys.platform}",
                where="code execution",
                fix="evaluate on a Linux machine or in a Linux virtual machine",
            )
        self._filter = filter_program()
        self._root = Path(tempfile.mkdtemp(prefix="vernacular-sandbox-"))
        self._links = {path: os.readlink(path) for path in _SYSTEM if os.path.islink(path)}
        shown = [path for path in _SYSTEM if os.path.exists(path) and path not in self._links]
        within = [str(path.resolve()) for path in (_python().parent.parent, *tools)]
        self._tools = [*shown, *sorted({path for path in within if not path.startswith("/usr/") and path != "/usr"})]

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._root, ignore_errors=True)

    def run(self, program: Program, limits: Limits, stdin: bytes = b"") -> Ending:
        """Run one program to its end; `stdin` is what a pipe holds at most."""
        if len(stdin) > _PIPE_BYTES:
            raise InternalError(f"{len(stdin)} bytes of input are more than a pipe holds", where="code execution")
        reads, writes = os.pipe()
        os.write(writes, stdin)
        os.close(writes)
        started = self.start(program, limits, Streams(stdin=reads))
        os.close(reads)
        return finish([started])[0]

    def start(self, program: Program, limits: Limits, streams: Streams | None = None) -> Running:
        """Start a program; `finish` waits for it."""
        streams = streams or Streams()
        user = random.SystemRandom().randrange(*_USERS, 2) if os.geteuid() == 0 else _USER_WITHIN
        pipes = {name: os.pipe() for name in ("wanted", "status", "control", "output", "verdict")}
        theirs = {
            **{name: pipes[name][1] for name in ("status", "output", "verdict")},
            **{name: pipes[name][0] for name in ("wanted", "control")},
        }
        ours = {name: pair[0] if theirs[name] == pair[1] else pair[1] for name, pair in pipes.items()}
        wanted = {
            "root": str(self._root),
            "tools": self._tools,
            "links": self._links,
            "files": {"/etc/passwd": _PASSWORDS % (user, user), **program.files},
            "program_bytes": sum(-(-len(content) // 4096 + 2) * 4096 for content in program.files.values()),
            "command": list(program.command),
            "environment": {"PATH": "/usr/bin:/bin", "HOME": "/scratch", "LANG": "C.UTF-8", **program.environment},
            "limits": limits._asdict(),
            "filter": self._filter,
            "user": user,
            "verdict": theirs["verdict"],
        }
        places = [theirs[name] for name in ("wanted", "status", "control")]
        process = subprocess.Popen(
            [str(_python()), "-I", "-S", "-c", _DOOR.format(path=str(_package_root())), *map(str, places)],
            stdin=subprocess.DEVNULL if streams.stdin is None else streams.stdin,
            stdout=theirs["output"] if streams.stdout is None else streams.stdout,
            stderr=theirs["output"],
            pass_fds=[theirs[name] for name in ("wanted", "status", "control", "verdict")],
            cwd="/",
            env={},
        )
        for place in theirs.values():
            os.close(place)
        try:
            with open(ours.pop("wanted"), "wb") as spec:
                marshal.dump(wanted, spec)
        except BrokenPipeError:
            pass  # It could not begin; its status says why.
        return Running(process, limits, ours)

    def check(self) -> None:
        """Run a program that looks for what it must not have.

        Raises:
            MachineError: the machine allows no sandbox.
        """
        ending = self.run(Program(("/bin/sh", "-c", _LOOKS_AROUND)), Limits())
        if ending.exit_code != 0:
            raise InternalError(f"the sandbox does not hold: {ending.output or ending}", where="code execution")


def _python() -> Path:
    """The interpreter itself, not the virtual environment's link to it."""
    return Path(sys.executable).resolve()


def _package_root() -> Path:
    """The folder that holds `vernacular/`."""
    return Path(__file__).resolve().parents[3]


_LOOKS_AROUND = """
exec 2>&1
(: >/usr/probe) 2>/dev/null && echo "it can write to /usr" && exit 1
test -e /etc/shadow && echo "it sees /etc/shadow" && exit 1
test "$(id -u)" != 0 || { echo "it is root"; exit 1; }
(: >/scratch/probe) || { echo "it has no scratch room"; exit 1; }
"""
