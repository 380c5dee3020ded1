"""Starts the processes of a run on this machine, waits for them, and starts them again where one was lost.

What torchrun does, for one machine and in plain words: a process that fails has said why, so nothing is added to it;
one that was killed could not, so it is named. A user's mistake is not tried again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, NoReturn

from vernacular.foundation.errors import MachineError, UserError

_GRACE = 15.0  # seconds, for the others to notice by themselves that one is gone
_INTERRUPTED = 128 + signal.SIGINT
# What is not tried again: success, a user's mistake, Ctrl-C.
_SETTLED = (0, UserError.exit_code, _INTERRUPTED)


def launch(words: Sequence[str], processes: int, *, restarts: int = 0) -> int:
    """Run `vernacular WORDS` in several processes that train together; returns the exit code of the run.

    Args:
        words: the command line without the program's name.
        processes: how many.
        restarts: how often all are started again after one was lost.

    Raises:
        MachineError: a process was killed, once more than `restarts` allows.
    """
    if "WORLD_SIZE" in os.environ:
        raise UserError(
            "these processes are already started by something else: WORLD_SIZE is set",
            where="--processes",
            fix="leave --processes out under torchrun; or unset WORLD_SIZE",
        )
    attempt = 0
    while True:
        codes = _run_once(words, processes)
        killed = [rank for rank, code in enumerate(codes) if code < 0]
        code = max(codes)
        if not killed and (code in _SETTLED or attempt == restarts):
            return code
        said = "the run failed"
        if killed:
            said = f"process {killed[0]} of {processes} was killed ({signal.Signals(-codes[killed[0]]).name})"
        if attempt == restarts:
            raise MachineError(
                said, fix="look at the system's log (out of memory?), and run the same command again to continue"
            )
        attempt += 1
        print(f"{said}; all are started again ({attempt} of {restarts})", file=sys.stderr, flush=True)


def _run_once(words: Sequence[str], processes: int) -> list[int]:
    """Each process's exit code, minus the signal that killed it. Those that we had to end ourselves count as 0."""
    children = [_start(words, rank, processes, port) for port in [_free_port()] for rank in range(processes)]
    with _ended(children), ThreadPoolExecutor(processes) as threads:
        waiting = {threads.submit(child.wait) for child in children}
        try:
            while waiting and all(child.returncode in (None, 0) for child in children):
                _, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt:
            wait(waiting, timeout=_GRACE)  # they have been interrupted too, and the first has said so
            return [_INTERRUPTED]
        else:
            wait(waiting, timeout=_GRACE)
        finally:
            codes = [child.returncode or 0 for child in children]
            _end(children)
    return codes


def _start(words: Sequence[str], rank: int, processes: int, port: int) -> subprocess.Popen[bytes]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = {**os.environ, **{name: str(number) for name, number in numbers.items()}, **address}
    return subprocess.Popen([sys.executable, "-m", "vernacular.cli.main", *words], env=environment)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _ended(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Leaves none of them behind when this process is asked to end."""

    def end(number: int, frame: Any) -> NoReturn:
        _end(children)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
