"""A program that is measured in a process of its own: a line of JSON to it, a line of JSON back."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

WORKERS = Path(__file__).parent / "workers"


class Ended(SystemExit):
    """A worker ended where it should have answered."""


class Worker:
    """One of the scripts in workers/, started and ready.

    Args:
        python: the interpreter it runs in: that of the environment which has the program.
        script: its name in workers/.
        words: its arguments.
        until: when it is ended whatever it does, by `time.monotonic`.

    Raises:
        Ended: it ended before it was ready.
    """

    def __init__(self, python: str, script: str, *words: str, until: float = float("inf")) -> None:
        started = time.perf_counter()
        command: Sequence[str] = [python, str(WORKERS / script), *words]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._end = None
        if until < float("inf"):
            self._end = threading.Timer(max(0.0, until - time.monotonic()), self._process.kill)
            self._end.daemon = True
            self._end.start()
        self._read()
        self.seconds_to_load = time.perf_counter() - started

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have it do something, and what it took. Raises `Ended` where it ends instead."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which reading says
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Ended(f"a worker ended with code {self._process.wait()}: {self._process.args!r}")
        return dict(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._end is not None:
            self._end.cancel()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
