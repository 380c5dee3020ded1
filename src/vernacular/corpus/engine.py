"""Daft, set up: it spreads work over processes of this machine, or over a Ray cluster, by the same plan.

A plan has a row per task; a task is small (a file name, a number), does its work on Arrow batches and leaves its
results in files, so that nothing large passes between processes and what is finished stays finished.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# Before Daft is imported: no telemetry, no progress bars of its own.
os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft

from vernacular.corpus.configuration import Engine
from vernacular.corpus.memory import keep_memory
from vernacular.foundation.errors import UserError, VernacularError, missing_extra
from vernacular.foundation.machine import usable_cores

# The executor logs every error of a plan before raising it.
logging.getLogger("daft_local_execution").setLevel(logging.CRITICAL)


def num_workers(settings: Engine) -> int:
    """How many processes work side by side.

    Raises:
        UserError: the memory allowed is too little for them.
        MachineError: Ray is asked for and not installed.
    """
    if settings.runner == "ray":
        return settings.workers or _cores_of_cluster(settings)
    fitting = settings.fitting_workers()
    return settings.workers or min(usable_cores(), fitting)


def spread(work: Callable[[Any], Any], tasks: Sequence[Any], settings: Engine) -> Iterator[Any]:
    """Do `work` for every task and yield the results in the tasks' order.

    One worker works in this process, task by task; several in processes of their own.

    Args:
        work: a function of a module, or a `functools.partial` of one; it and its results are pickled.
        tasks: what it is called with, one after another.
        settings: runner and number of workers.

    Raises:
        VernacularError, OSError: the first error that a task raised.
    """
    workers = min(num_workers(settings), len(tasks))
    if settings.runner == "native" and workers <= 1:
        yield from map(work, tasks)
        return
    _choose_runner(settings)
    frame = daft.from_pydict({"task": [pickle.dumps(task) for task in tasks]})
    if settings.runner == "ray":
        frame = frame.into_partitions(len(tasks))
    worker = daft.cls(_Worker, max_concurrency=workers, use_process=True)(work)
    for batch in frame.select(worker.do(frame["task"]).alias("result")).to_arrow_iter():
        for result in batch.column(0).to_pylist():
            outcome = pickle.loads(result)
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome


class _Worker:
    """Runs in a process of its own. Errors come back as results: Daft would pass on only their words."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        keep_memory()
        self._work = work

    @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=1)
    def do(self, tasks: daft.Series) -> list[bytes]:
        """Do the tasks (pickled); their results, pickled."""
        return [pickle.dumps(self._outcome(pickle.loads(task))) for task in tasks.to_pylist()]

    def _outcome(self, task: Any) -> Any:
        try:
            return self._work(task)
        except (VernacularError, OSError) as error:
            return error


def _choose_runner(settings: Engine) -> None:
    """Make Daft run as the settings say; it can be told once in a process."""
    if settings.runner == "ray":
        _connect(settings)
        daft.set_runner_ray(settings.address, noop_if_initialized=True)
    elif daft.get_or_create_runner().name != "native":
        raise UserError(
            "this process has worked on Ray already and cannot go back to the native runner",
            where="engine.runner",
            fix="use one runner for all stages of a recipe",
        )


def _connect(settings: Engine) -> Any:
    """Ray, connected."""
    try:
        import ray
    except ImportError as error:
        raise missing_extra("ray", "ray", "the runner `ray`") from error
    if not ray.is_initialized():
        try:
            ray.init(settings.address, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise UserError(
                f"no Ray cluster answers: {error}", where="engine.address", fix="start one, or leave `address` out"
            ) from error
    return ray


def _cores_of_cluster(settings: Engine) -> int:
    return max(1, int(_connect(settings).cluster_resources().get("CPU", 1)))
