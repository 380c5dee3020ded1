"""Patience with what fails in passing, a store or a server: further tries, after waits that grow."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from vernacular.foundation.errors import MachineError

_LONGEST_WAIT = 60.0

Result = TypeVar("Result")


class Passing(MachineError):
    """A failure that may be gone with the next try.

    Attributes:
        wait_asked: seconds that the other side asks to be left alone; None where it says nothing.
    """

    wait_asked: float | None = None


class Patience(NamedTuple):
    """How long to bear with it.

    Attributes:
        attempts: how often a thing is tried, at least once.
        first_wait_seconds: after the first failure; each further one waits twice as long, up to a minute.
        wait: sleeps for some seconds.
    """

    attempts: int
    first_wait_seconds: float
    wait: Callable[[float], object] = time.sleep


def persist(act: Callable[[], Result], patience: Patience, may_pass: Callable[[Exception], bool]) -> Result:
    """What `act` returns; done again while what it raises may pass.

    Each wait is up to a half longer by chance, so that those who failed together do not come back together.
    """
    for failures in range(patience.attempts - 1):
        try:
            return act()
        except Exception as error:
            if not may_pass(error):
                raise
            wait = patience.first_wait_seconds * 2.0**failures * random.uniform(1.0, 1.5)
            asked = error.wait_asked if isinstance(error, Passing) else None
            patience.wait(min(wait if asked is None else asked, _LONGEST_WAIT))
    return act()
