"""A server in a process of its own, as the command line starts it, over tiny random weights."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

SECONDS = 60
KEY = "sesam-otworz-sie-7"


class ServerProcess:
    """`vernacular serve`, its address, and what it has written to its log so far."""

    def __init__(self, weights: Path, *words: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vernacular.cli.main", "serve", str(weights), "--port", "0", *words],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src"), **(env or {})},
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        atexit.register(self.process.kill)  # a test that fails leaves none behind
        self.lines: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._listening.wait(SECONDS), "".join(self.lines)
        found = re.search(r"http://\S+(?=/v1)", "".join(self.lines))
        assert found is not None, "".join(self.lines)
        self.url = found[0]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if "listening at" in line:
                self._listening.set()
        self._listening.set()

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, and all of its log read."""
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def metric(self, name: str) -> float:
        """The present value of a metric without labels."""
        text = httpx.get(f"{self.url}/metrics").text
        return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"vernacular_{name} ")))


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask until it holds; fail after a while."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.01)
