"""Training that is killed, and can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from vernacular.training import trainer


class Killed(BaseException):
    """Stands for a kill: nothing catches it, nothing cleans up."""


@contextmanager
def killed_at_update(number: int) -> Iterator[None]:
    """The `number`-th update that is made within does not happen, nor anything after it."""
    updates = 0
    genuine = trainer.set_learning_rate

    def count(optimiser: torch.optim.Optimizer, rate: float) -> None:
        nonlocal updates
        updates += 1
        if updates == number:
            raise Killed
        genuine(optimiser, rate)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer, "set_learning_rate", count)
        yield
