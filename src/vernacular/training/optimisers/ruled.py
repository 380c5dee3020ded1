"""An optimiser whose groups each follow a rule, with averages and weights in the precision they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from vernacular.parallel.gradients import own_part
from vernacular.training.optimisers.rounding import Rounder
from vernacular.training.optimisers.rules import RULES, new_state


class RuledOptimiser(torch.optim.Optimizer):
    """Takes each tensor through float32: read the weight, apply its group's rule, round it back.

    Args:
        groups: as `parameter_groups` makes them.
        settings: what the rules read: lr, betas, epsilon, momentum, adjust, newton_schulz_steps.
        average_dtype: precision of the averages at rest.
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
                if parameter.grad is None:
                    continue
                self.state[parameter]["step"] += 1
                # Of a weight that is spread, a rank changes its own part.
                state = {name: own_part(tensor) for name, tensor in self.state[parameter].items()}
                value = self.rounder.read(own_part(parameter), state)
                RULES[group["rule"]](value, own_part(parameter.grad).float(), state, {**group, "parameter": parameter})
                self.rounder.write(value, parameter, state, self._names[parameter])
