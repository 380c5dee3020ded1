"""Programs under way in sandboxes: what they write is taken, their time is kept, and how each ended is told."""

from __future__ import annotations

import marshal
import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from vernacular.evaluation.sandbox.limits import Ending, Limits
from vernacular.foundation.errors import InternalError, MachineError, VernacularError

_TAIL_BYTES = 4096
_CHUNK = 1 << 16
_READ = ("status", "output", "verdict")


class Running:
    """A program under way.

    Args:
        process: the sandbox's door.
        limits: its bounds; time and output are kept here, the rest within.
        places: file descriptors of our ends of its pipes: `status`, `output`, `verdict`, `control`.
    """

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits, places: dict[str, int]) -> None:
        self.places = places
        self._process = process
        self._limits = limits
        self._began = time.monotonic()
        self._seconds = 0.0
        self._limit: str | None = None
        self._stopped = False
        self._written = 0
        self._taken = {name: bytearray() for name in _READ}

    @property
    def deadline(self) -> float:
        """When its time is up, by the monotonic clock."""
        return self._began + self._limits.wall_seconds

    @property
    def is_open(self) -> bool:
        """Whether any of its pipes is still open at the other end."""
        return any(name in self.places for name in _READ)

    def stop(self, limit: str | None = None) -> None:
        """End it and all of its processes; `limit` says which bound it reached, if any."""
        if "control" in self.places:
            os.close(self.places.pop("control"))
            self._stopped, self._limit = True, limit

    def take(self, name: str) -> bool:
        """Read what came on one of its pipes; False at its end."""
        piece = os.read(self.places[name], _CHUNK)
        if not piece:
            os.close(self.places.pop(name))
            return False
        self._taken[name] += piece
        if name == "status":
            return True
        self._written += len(piece)
        if name == "output":
            del self._taken[name][:-_TAIL_BYTES]
        if self._written > self._limits.output_bytes:
            self._taken["verdict"].clear()
            self.stop("output")
        return True

    def leave(self) -> None:
        """Wait until nothing of it is left."""
        self.stop(self._limit)
        self._process.wait()
        self._seconds = time.monotonic() - self._began

    def ending(self) -> Ending:
        """How it ended.

        Raises:
            MachineError: the machine allows no sandbox.
        """
        told: dict[str, Any] = marshal.loads(self._taken["status"]) if self._taken["status"] else {}
        output = self._taken["output"].decode("utf-8", "replace")
        if "error" in told:
            raise refusal(told["error"])
        if not told and not self._stopped:
            raise InternalError(f"the sandbox broke: {output.strip() or 'it says nothing'}", where="code execution")
        return Ending(
            exit_code=told.get("exit_code"),
            limit=self._limit or told.get("limit"),
            output=output,
            verdict=bytes(self._taken["verdict"]),
            seconds=self._seconds,
            cpu_seconds=told.get("cpu_seconds", 0.0),
            peak_bytes=told.get("peak_bytes", 0),
        )


def finish(running: Sequence[Running]) -> list[Ending]:
    """Wait for programs; the end of the last of them ends the others."""
    with selectors.DefaultSelector() as selector:
        for number, one in enumerate(running):
            for name in _READ:
                selector.register(one.places[name], selectors.EVENT_READ, (number, name))
        waiting = set(range(len(running)))
        while waiting:
            now = time.monotonic()
            soonest = min(running[number].deadline for number in waiting)
            for key, _ in selector.select(max(0.0, soonest - now)):
                number, name = key.data
                place = key.fd
                if not running[number].take(name):
                    selector.unregister(place)
            for number in list(waiting):
                if not running[number].is_open:
                    running[number].leave()
                    waiting.discard(number)
                elif time.monotonic() >= running[number].deadline:
                    running[number].stop("wall time")
            if len(running) - 1 not in waiting:
                for number in waiting:
                    running[number].stop()
    return [one.ending() for one in running]


def refusal(reason: str) -> VernacularError:
    """The error for a machine that allows no sandbox."""
    return MachineError(
        f"this machine allows no sandbox for generated code: {reason}",
        where="code execution",
        fix="allow user namespaces (`sysctl -w kernel.unprivileged_userns_clone=1 "
        "kernel.apparmor_restrict_unprivileged_userns=0`, those of the two that there are); in a container, start "
        "it with --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
        "--security-opt systempaths=unconfined; the kernel must be Linux 5.12 or newer",
    )
