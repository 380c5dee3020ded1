"""The processes of one run: the first leads, the others wait for it however long it takes, and an error ends all.

They are started by `vernacular run --processes`, by torchrun or by whatever else sets RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT. A process started alone is all of them.

What they tell each other here goes through a store, not through the group of a mesh: there nobody waits longer than
`timeout_seconds`, while a stage that the first process does alone may take days.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from vernacular.foundation.errors import MachineError, UserError, VernacularError
from vernacular.foundation.machine import usable_cores

if TYPE_CHECKING:
    from torch.distributed import Store

T = TypeVar("T")

_FAILED = "failed"
_PATIENCE = timedelta(seconds=5)  # between two looks at whether the run still lives
_GOODBYE = timedelta(seconds=30)
_MEETING = timedelta(minutes=10)


class Processes:
    """This process among those of the run.

    Attributes:
        rank: its number, from 0; the first one leads.
        size: how many there are.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._said = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that alone writes, prints and does what is not shared."""
        return self.rank == 0

    @cached_property
    def store(self) -> Store:
        """What all processes read and write; theirs alone, also after torchrun has started them again."""
        return _open_store(self.rank, self.size)

    def tell(self, message: str) -> None:
        """Say something to all others, who `hear` it in the order in which it was said. The first process only."""
        if self.size > 1:
            self._said += 1
            self.store.set(f"said/{self._said}", message)

    def hear(self) -> str:
        """What the first process says next. Raises `SystemExit` where it has failed, for it has said why."""
        self._said += 1
        key = f"said/{self._said}"
        while True:
            try:
                self.store.wait([key], _PATIENCE)
                break
            except RuntimeError as error:
                if "timeout" not in str(error).lower():
                    raise SystemExit(MachineError.exit_code) from error  # the first process is gone
        message = self.store.get(key).decode()
        if message.startswith(_FAILED):
            raise SystemExit(int(message.removeprefix(_FAILED)))
        return message

    def first(self, work: Callable[[], T]) -> T | None:
        """What `work` returns on the first process, which alone does it while the others wait; on them None."""
        if not self.leads:
            self.hear()
            return None
        done = work()
        self.tell("done")
        return done

    def next_number(self, name: str) -> int:
        """0 for whichever process asks first for numbers of this name, then 1, and so on: each goes to one of them."""
        return self.store.add(f"numbers/{name}", 1) - 1

    def meet(self, name: str) -> None:
        """Wait until all have come here. Raises `SystemExit` where one of them has failed, for it has said why."""
        if self.store.add(f"met/{name}", 1) == self.size:
            self.store.set(f"all met/{name}", "")
        while True:
            try:
                self.store.wait([f"all met/{name}"], _PATIENCE)
                return
            except RuntimeError as error:
                if "timeout" not in str(error).lower() or self.store.add(_FAILED, 0):
                    raise SystemExit(MachineError.exit_code) from error

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """Around all that the processes do: an error on one ends all, and only the first to fail says so."""
        if self.size == 1:
            yield
            return
        try:
            yield
        except KeyboardInterrupt:
            if self.leads:
                raise
            raise SystemExit(130) from None
        except Exception as error:
            code = error.exit_code if isinstance(error, VernacularError) else 1
            if not self._is_first_to_fail(code):
                raise SystemExit(code) from error
            if _is_lost_touch(error):
                raise MachineError(
                    "another process of this run is gone, or cannot be reached",
                    where=f"process {self.rank} of {self.size}",
                    fix="look at what it said, or at the system's log (out of memory?), and run again to continue",
                ) from error
            raise
        self._part()

    def _is_first_to_fail(self, code: int) -> bool:
        """Whether no other process has failed before; says to those that wait that this one has."""
        try:
            first = self.store.add(_FAILED, 1) == 1
            if self.leads:
                self.tell(f"{_FAILED}{code}")
        except RuntimeError:  # the first process is gone, and with it the store
            return False
        return first

    def _part(self) -> None:
        """Nobody leaves before all have come to the end: with the first process, the store goes."""
        if self.store.add("at the end", 1) == self.size:
            self.store.set("all at the end", "")
        if self.leads:
            self.store.wait(["all at the end"], _GOODBYE)


def this_process() -> Processes:
    """This process among those that were started together; the same object at every call."""
    found = (number_from_environment("RANK", 0), number_from_environment("WORLD_SIZE", 1))
    if found not in _joined:
        _require_address(found[1])
        _joined[found] = Processes(*found)
    return _joined[found]


_joined: dict[tuple[int, int], Processes] = {}


def number_from_environment(name: str, default: int) -> int:
    """A number that the starter of the processes has set."""
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise UserError(f"{name} is '{text}', not a number", where=f"environment variable {name}", fix="use torchrun")
    return int(text)


def processes_here() -> int:
    """How many of the run's processes share this machine."""
    return number_from_environment("LOCAL_WORLD_SIZE", number_from_environment("WORLD_SIZE", 1))


def share_machine(device: str) -> str:
    """This process's device where several share the machine: its share of the cores, or a GPU of its own for `cuda`."""
    if processes_here() == 1:
        return device
    import torch

    torch.set_num_threads(max(1, usable_cores() // processes_here()))
    return f"cuda:{number_from_environment('LOCAL_RANK', 0)}" if device == "cuda" else device


def _require_address(size: int) -> None:
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if size > 1 and missing:
        raise UserError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set",
            where="environment",
            fix="start the processes with `vernacular run --processes` or torchrun, or unset WORLD_SIZE to run alone",
        )


def _is_lost_touch(error: Exception) -> bool:
    """Whether an error only says that another process did not answer."""
    import torch.distributed as dist

    words = ("gloo", "connection", "nccl", "timed out")
    is_plain = type(error) is RuntimeError and any(word in str(error).lower() for word in words)
    return isinstance(error, dist.DistError) or is_plain


def _open_store(rank: int, size: int) -> Store:
    """torchrun's store, or one of the first process's own.

    torchrun's outlives the processes that it restarts, and with it what those that died have left there.
    """
    import torch.distributed as dist

    is_torchruns = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = number_from_environment("TORCHELASTIC_RESTART_COUNT", 0)
    restarts = number_from_environment("TORCHELASTIC_MAX_RESTARTS", 0)
    if is_torchruns and number_from_environment("GROUP_WORLD_SIZE", 1) > 1 and restarts > 0:
        # Nodes count restarts each for itself, so the count cannot tell the addresses apart.
        raise UserError(
            "torchrun on several nodes hands restarted processes the addresses of those that died",
            where="environment of torchrun",
            fix="set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun on every node, or --max-restarts=0",
        )
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"],
        number_from_environment("MASTER_PORT", 0),
        size,
        is_master=rank == 0 and not is_torchruns,
        timeout=_MEETING,
        wait_for_workers=False,
    )
    return dist.PrefixStore(f"attempt-{attempt if is_torchruns else 0}", store)
