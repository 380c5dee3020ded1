"""Several processes that wait for functions to run together, in one process group: started once for many tests."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import vernacular

PATIENCE, PATIENCE_AFTER_FAILURE = 120.0, 15.0  # seconds


class Crew:
    """`crew.run(function, *arguments)`: what each rank's `function(*arguments)` returned, in rank order."""

    def __init__(self, size: int) -> None:
        context = _context()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.processes, self._pipes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, rank, size, port), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self._pipes.append(ours)

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        self.begin(function, *arguments)
        answers = self.answers()
        failed = [f"rank {rank}:\n{answer}" for rank, (fine, answer) in enumerate(answers) if not fine]
        if failed:
            self.stop()
            raise AssertionError("\n".join(failed))
        return [answer for _, answer in answers]

    def begin(self, function: Callable[..., Any], *arguments: Any) -> None:
        for pipe in self._pipes:
            pipe.send((function, arguments))

    def answers(self) -> list[tuple[bool, Any]]:
        """(whether it went well, the value or the traceback) of each rank; a rank that is gone has gone wrong."""
        answers: dict[Connection, tuple[bool, Any]] = {}
        deadline = time.monotonic() + PATIENCE
        while len(answers) < len(self._pipes):
            waiting = [pipe for pipe in self._pipes if pipe not in answers]
            ready = wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                self.stop()
                given = "\n".join(str(answer) for fine, answer in answers.values() if not fine)
                raise AssertionError(f"no answer from ranks {[*map(self._pipes.index, waiting)]}\n{given}")
            for pipe in ready:
                try:
                    answers[pipe] = pipe.recv()
                except (EOFError, ConnectionResetError):
                    answers[pipe] = (False, "the process is gone")
                if not answers[pipe][0]:
                    deadline = min(deadline, time.monotonic() + PATIENCE_AFTER_FAILURE)
        return [answers[pipe] for pipe in self._pipes]

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


@cache
def _context() -> ForkServerContext:
    """Processes are copies of one that has loaded everything already."""
    folders = [str(Path(module.__file__ or "").parent) for module in (vernacular, sys.modules[__name__])]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(folders[0]).parent), *folders[1:]])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["parallel_probes", "trained_together"])
    return context


def _work(pipe: Connection, rank: int, size: int, port: int) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    import torch

    from vernacular.parallel.configuration import ParallelConfiguration
    from vernacular.parallel.mesh import open_mesh

    torch.set_num_threads(1)
    open_mesh(ParallelConfiguration())
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, function(*arguments)))
        except Exception:  # noqa: BLE001 - whatever it was, the test that asked is told
            # Out of step with the others from here on: ends, as a real run's process does.
            pipe.send((False, traceback.format_exc()))
            return
