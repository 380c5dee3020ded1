"""An allowance that several threads spend: what a request may cost is set aside before it is made."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Allowance:
    """So much and no more, whatever the requests under way turn out to cost.

    Args:
        most: what may be spent; None: no bound.
        used: what is spent already.

    Attributes:
        used: what is spent.
        changed: its lock, for what must change together with it.
    """

    def __init__(self, most: int | None, used: int = 0) -> None:
        self._most, self.used = most, used
        self._reserved = 0
        self.changed = threading.Condition()

    def reserve(self, amount: int, used_up: Callable[[], Exception]) -> None:
        """Set an amount aside; waits for the requests under way where they may leave enough.

        Raises:
            Exception: what `used_up` makes, where none is under way and the rest does not suffice.
        """
        with self.changed:
            while self._most is not None and self.used + self._reserved + amount > self._most:
                if not self._reserved:
                    raise used_up()
                self.changed.wait()
            self._reserved += amount

    def settle(self, reserved: int, used: int) -> None:
        """Enter what a request did cost, for which so much was set aside."""
        with self.changed:
            self._reserved -= reserved
            self.used += used
            self.changed.notify_all()
