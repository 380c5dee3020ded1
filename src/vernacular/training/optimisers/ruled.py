"""An optimiser whose groups each follow a rule, with averages and weights in the precision they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vernacular.parallel.gradients import own_part, place_of
from vernacular.training.optimisers.eight_bit import CODES, open_averages
from vernacular.training.optimisers.rounding import Rounder
from vernacular.training.optimisers.rules import RULES, new_state


class RuledOptimiser(torch.optim.Optimizer):
    """Takes each tensor through float32: read the weight, apply its group's rule, round it back.

    Args:
        groups: as `parameter_groups` makes them.
        settings: what the rules read: lr, betas, epsilon, momentum, adjust, newton_schulz_steps.
        average_dtype: precision of the averages at rest; uint8: in blocks of 8 bits a value.
        rounder: how bfloat16 weights are rounded.
        names: of the weights, which no layout changes.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        settings: dict[str, Any],
        *,
        average_dtype: torch.dtype,
        rounder: Rounder,
        names: Mapping[torch.Tensor, str],
    ) -> None:
        super().__init__(groups, settings)
        self.rounder = rounder
        self._names = dict(names)
        # Made now, so that a checkpoint can be read into it without a step being taken first.
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = {
                    **new_state(parameter, group["rule"], average_dtype),
                    **rounder.new_state(parameter),
                }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but averages keep their own precision: torch's own turns them into that of the weights."""
        super().load_state_dict({**state_dict, "state": {}})
        saved = [key for group in state_dict["param_groups"] for key in group["params"]]
        ours = [parameter for group in self.param_groups for parameter in group["params"]]
        for key, parameter in zip(saved, ours, strict=True):
            self.state[parameter] = dict(state_dict["state"][key])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change every weight that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.state[parameter]["step"] += 1
                    self._change(parameter, parameter.grad, group)

    def _change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change one weight; of one that is spread, a rank changes its own part."""
        state = {name: own_part(tensor) for name, tensor in self.state[parameter].items()}
        steps = int(state.pop("step"))
        own, gradient = own_part(parameter.detach()), own_part(gradient)
        key = self.rounder.key(self._names[parameter], steps) if own.dtype != torch.float32 else None
        place = None if key is None else place_of(parameter)
        if own.is_cuda and group["rule"] == "adamw":
            if not any(name.endswith(CODES) for name in state):  # blocks are of rows
                own, gradient = own.view(-1), gradient.view(-1)
                place = None if place is None else place.view(-1)
                state = {name: tensor.view(-1) for name, tensor in state.items()}
            # Tensors, so that the compiler takes what changes from step to step as no constant.
            changing = {"lr": torch.tensor(group["lr"]), "steps": torch.tensor(float(steps))}
            lasting = {name: group[name] for name in ("rule", "betas", "epsilon", "weight_decay")}
            _compiled()(own, gradient, state, {**lasting, **changing}, place, key)
            return
        _apply(own, gradient, state, {**group, "parameter": parameter, "steps": float(steps)}, place, key)


def _apply(
    own: Tensor,
    gradient: Tensor,
    state: dict[str, Any],
    group: dict[str, Any],
    place: Tensor | None,
    key: Tensor | None,
) -> None:
    """Read, rule, write."""
    value = Rounder.read(own, state)
    RULES[group["rule"]](value, gradient.float(), open_averages(state), group)
    Rounder.write(value, own, state, place, key)


@cache
def _compiled() -> Callable[..., None]:
    """`_apply` as one program for tensors of all sizes: on a GPU, each value is read and written once."""
    compiled: Callable[..., None] = torch.compile(_apply, dynamic=True, options={"emulate_precision_casts": True})
    return compiled
