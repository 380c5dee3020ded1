"""A decoder that is spread before its weights exist: no rank ever holds more than its own part and one whole weight."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vernacular.foundation.errors import InternalError
from vernacular.parallel.gradients import own_part, part_of


def give_storage(decoder: nn.Module, device: torch.device) -> None:
    """Give every weight on the meta device storage for this rank's part, its values still to come.

    PyTorch's `to_empty` would make two weights of a tied one.
    """
    given: dict[nn.Parameter, nn.Parameter] = {}
    for module in decoder.modules():
        for name, weight in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if weight.is_meta:
                if weight not in given:
                    empty = torch.empty_like(weight, device=device, requires_grad=False)
                    given[weight] = nn.Parameter(empty, requires_grad=weight.requires_grad)
                setattr(module, name, given[weight])


@torch.no_grad()
def fill(decoder: nn.Module, values: Iterable[tuple[str, Tensor]]) -> None:
    """Give this rank's parts of the weights their values.

    Args:
        decoder: spread, or whole.
        values: of all weights of all ranks by their names, each whole; one is asked for at a time.
    """
    waiting = dict(decoder.named_parameters())
    for name, whole in values:
        weight = waiting.pop(name, None)
        if weight is not None:  # else one of another pipeline stage
            own_part(weight).copy_(part_of(whole, weight))
    if waiting:
        raise InternalError(f"no values were given for {', '.join(waiting)}")
