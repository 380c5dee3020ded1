"""Progress bars for work that takes longer than two seconds; a line every ten seconds where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")


def progress(
    items: Iterable[Item] | None = None,
    *,
    doing: str,
    total: int | None = None,
    unit: str = "it",
    initial: int = 0,
    hidden: bool = False,
) -> Any:
    """A tqdm bar on standard error, shown once the work has run for a second.

    Args:
        items: what to iterate over; None to call `.update(n)` by hand (use it as a context manager then).
        doing: what is being done, shown before the bar ("reading documents").
        total: how many items there are, if known.
        unit: what one item is ("documents", "tokens").
        initial: how many were done before (after a resume).
        hidden: show nothing; for all but one of the processes that do the same work.
    """
    from tqdm import tqdm

    at_terminal = sys.stderr.isatty()
    return tqdm(
        items,
        desc=doing,
        total=total,
        unit=f" {unit}",
        unit_scale=True,
        initial=initial,
        disable=hidden,
        delay=1.0,
        mininterval=0.1 if at_terminal else 10.0,
        dynamic_ncols=at_terminal,
        leave=at_terminal,
        file=sys.stderr if at_terminal else _Log(),
    )


class _Log:
    """Standard error where it is no terminal: each redrawing of a bar becomes a line."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()
