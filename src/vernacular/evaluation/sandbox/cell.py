"""Builds a sandbox from within and runs one program in it. Standard library only: it starts anew each time.

Three processes: the door, which makes the namespaces and outlives them; the keeper, first process of the new PID
namespace, which measures and reaps, and whose end ends all others; and the program. The program's files lie read-only
in `/program`; it may write to `/scratch` alone.
"""

from __future__ import annotations

import marshal
import os
import resource
import select
import signal
from collections.abc import Mapping
from typing import Any

from vernacular.evaluation.sandbox import kernel

PROGRAM, SCRATCH = "/program", "/scratch"
VERDICT = 3
"""The file descriptor on which a verdict is given."""

_DEVICES = ("null", "zero", "full", "random", "urandom")
_SECONDS_BETWEEN_LOOKS = 0.02
_STACK_BYTES = 8 << 20

Wanted = Mapping[str, Any]


def main(wanted_from: int, status_to: int, control_from: int) -> None:
    """The door.

    Args:
        wanted_from: file descriptor that holds what is wanted (`sandbox.Sandbox.start`).
        status_to: receives how it ended, or why it could not begin.
        control_from: the sandbox ends when this is closed at its other end.
    """
    with open(wanted_from, "rb") as file:
        wanted = marshal.load(file)
    os.set_inheritable(status_to, False)
    try:
        kernel.die_with_parent()
        _build(wanted)
        keeper = os.fork()
        if keeper == 0:
            _within(status_to, _keep, wanted, status_to)
        _guard(keeper, control_from)
    except OSError as error:
        _tell(status_to, {"error": str(error.strerror or error)})


def _tell(status_to: int, status: Mapping[str, Any]) -> None:
    os.write(status_to, marshal.dumps(dict(status)))


def _within(status_to: int, run: Any, *arguments: Any) -> None:
    """Run a child's part; it never returns."""
    try:
        run(*arguments)
    except OSError as error:
        _tell(status_to, {"error": str(error.strerror or error)})
    finally:
        os._exit(70)


def _guard(keeper: int, control_from: int) -> None:
    """Wait for the keeper, whose end is that of everything within; end it when our own side asks or is gone."""
    ended = os.pidfd_open(keeper)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(control_from, select.POLLIN | select.POLLHUP)
    if any(place == control_from for place, _ in poll.poll()):
        os.kill(keeper, signal.SIGKILL)
    os.waitpid(keeper, 0)


# ---------------------------------------------------------------------------------------------------- the room


def _build(wanted: Wanted) -> None:
    """New namespaces, and a root that holds the tools, the program's files and some scratch room."""
    spaces = kernel.NEW_MOUNTS | kernel.NEW_PIDS | kernel.NEW_NETWORK | kernel.NEW_IPC | kernel.NEW_NAMES
    outer = os.geteuid()
    if outer == 0:
        kernel.unshare(spaces | kernel.NEW_CGROUP)
    else:
        group = os.getegid()
        kernel.unshare(spaces | kernel.NEW_CGROUP | kernel.NEW_USER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{wanted['user']} {outer} 1")
        _write("/proc/self/gid_map", f"{wanted['user']} {group} 1")
    kernel.mount("none", "/", "", kernel.DEEP | kernel.PRIVATE)
    kernel.name_host("sandbox")
    root = wanted["root"]
    size = wanted["limits"]["scratch_bytes"]
    safe = kernel.NO_SETUID | kernel.NO_DEVICES
    kernel.mount("tmpfs", root, "tmpfs", safe, f"size={wanted['program_bytes'] + (1 << 20)},mode=0755")
    for path in wanted["tools"]:
        _show(path, root + path)
    for name in _DEVICES:
        _touch(f"{root}/dev/{name}")
        kernel.mount(f"/dev/{name}", f"{root}/dev/{name}", "", kernel.BIND)
    for path, content in wanted["files"].items():
        _place(root + path, content)
    for link, target in wanted["links"].items():
        os.symlink(target, root + link)
    for folder in ("/proc", "/tmp", SCRATCH):
        os.makedirs(root + folder, exist_ok=True)
    owner = wanted["user"]
    options = f"size={size},nr_inodes=4096,mode=0700,uid={owner},gid={owner}"
    kernel.mount("tmpfs", root + SCRATCH, "tmpfs", safe, options)
    kernel.mount(root + SCRATCH, f"{root}/tmp", "", kernel.BIND)


def _enter(root: str) -> None:
    """Make the new root the only one. Its `/proc` is of this process's namespace, and must come before."""
    safe = kernel.NO_SETUID | kernel.NO_DEVICES
    kernel.mount("proc", f"{root}/proc", "proc", safe | kernel.NO_PROGRAMS, "subset=pid")
    kernel.change_root(root)
    kernel.mount("none", "/", "", kernel.REMOUNT | kernel.READ_ONLY | safe | kernel.BIND)


def _show(source: str, target: str) -> None:
    """The folder or file at `source`, read-only, at `target`."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        _touch(target)
    kernel.mount(source, target, "", kernel.BIND | kernel.DEEP)
    kernel.freeze(target)


def _touch(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _place(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o555)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


# ------------------------------------------------------------------------------------------------- the keeper


def _keep(wanted: Wanted, status_to: int) -> None:
    """Start the program, wait for it, watch what all processes use; tell how it ended."""
    _enter(wanted["root"])
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    program = os.fork()
    if program == 0:
        _within(status_to, _start, wanted)
    os.closerange(0, status_to)
    os.closerange(status_to + 1, 256)
    _become(int(wanted["user"]) + 1)
    kernel.drop_capabilities()
    kernel.hide_memory()
    kernel.die_with_parent()
    peak, seconds, limit, exit_code = 0, 0.0, None, None
    while exit_code is None and limit is None:
        signal.sigtimedwait({signal.SIGCHLD}, _SECONDS_BETWEEN_LOOKS)
        exit_code = _reap(program)
        used, seconds = _use()
        peak = max(peak, used)
        if used > wanted["limits"]["memory_bytes"]:
            limit = "memory"
        elif seconds > wanted["limits"]["cpu_seconds"]:
            limit = "CPU time"
    _tell(status_to, {"exit_code": exit_code, "limit": limit, "cpu_seconds": seconds, "peak_bytes": peak})
    os._exit(0)


def _reap(program: int) -> int | None:
    """Take leave of all processes that ended; what the program ended with, or None."""
    found = None
    while True:
        try:
            number, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if number == 0:
            return found
        if number == program:
            found = os.waitstatus_to_exitcode(status)


def _use() -> tuple[int, float]:
    """Resident bytes that are not a file's, and CPU seconds, of all processes but this one."""
    memory, ticks = 0, 0.0
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        try:
            with open(f"/proc/{name}/status") as status, open(f"/proc/{name}/stat") as stat:
                sizes = [line.split() for line in status if line.startswith(("RssAnon", "RssShmem"))]
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue  # It ended meanwhile.
        memory += sum(int(size) << 10 for _, size, _ in sizes)
        ticks += sum(map(int, fields[11:15]))
    reaped = os.times()
    return memory, ticks / os.sysconf("SC_CLK_TCK") + reaped.children_user + reaped.children_system


# ------------------------------------------------------------------------------------------------ the program


def _become(user: int) -> None:
    """Give up being root. Where we are not, the namespace has but one user."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def _start(wanted: Wanted) -> None:
    """Bound what the program may use, take all rights from it, and become it."""
    os.setsid()
    _write("/proc/self/oom_score_adj", "1000")
    if wanted["verdict"] is not None:
        os.dup2(wanted["verdict"], VERDICT)
        if os.getuid() == 0:
            os.fchown(VERDICT, int(wanted["user"]), -1)  # For programs that open it by its path.
    first_shut = VERDICT + (wanted["verdict"] is not None)
    for place in range(first_shut, 256):
        if _is_open(place):
            os.set_inheritable(place, False)
    limits = wanted["limits"]
    seconds = int(limits["cpu_seconds"]) + 1
    for what, most in (
        (resource.RLIMIT_DATA, limits["memory_bytes"]),
        (resource.RLIMIT_STACK, _STACK_BYTES),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, limits["scratch_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(what, (most, most))
    kernel.drop_capabilities()
    _become(int(wanted["user"]))
    kernel.filter_system_calls(wanted["filter"])
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    os.chdir(SCRATCH)
    command = wanted["command"]
    os.execve(command[0], command, wanted["environment"])


def _is_open(place: int) -> bool:
    try:
        os.fstat(place)
    except OSError:
        return False
    return True
