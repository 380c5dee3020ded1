"""Which weights go together: by what they do, whether they decay, and by their share of the learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

from torch import nn

from vernacular.models.decoder import Decoder
from vernacular.training.optimisation import OptimiserConfiguration

Role = Literal["embedding", "head", "attention", "feed-forward", "router", "norm"]
ROLES: tuple[Role, ...] = get_args(Role)

# The matrices whose width on both sides, or on the side they read, grows with the model.
INTERNAL: tuple[Role, ...] = ("attention", "feed-forward", "router")
_ORTHOGONAL: tuple[Role, ...] = ("attention", "feed-forward")
# Two matrices in one tensor, the gate's below the other's: Muon takes each for itself.
_JOINED = ".experts.input"


def roles(model: nn.Module) -> Iterator[tuple[str, Role, nn.Parameter]]:
    """Every weight that is trained, with its name and what it is part of; a tied head is the embedding."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, _role(name, parameter), parameter


def _role(name: str, parameter: nn.Parameter) -> Role:
    if parameter.dim() < 2:
        return "norm"
    if ".router." in name:
        return "router"
    if name.startswith("blocks."):
        return "attention" if ".attention." in name else "feed-forward"
    return "embedding" if name.startswith("embedding.") else "head"


def parameter_groups(decoder: Decoder, configuration: OptimiserConfiguration) -> list[dict[str, Any]]:
    """The optimiser's groups: `params`, `weight_decay`, `rate_scale` (of the schedule's rate), `rule`, `parts`."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, role, parameter in roles(decoder):
        settings = {
            "weight_decay": configuration.weight_decay if _decays(role, configuration) else 0.0,
            "rate_scale": _rate_scale(role, decoder, configuration),
            "rule": "muon" if configuration.name == "muon" and role in _ORTHOGONAL else "adamw",
            "parts": 2 if name.endswith(_JOINED) else 1,
        }
        groups.setdefault(tuple(settings.values()), {"params": [], **settings})["params"].append(parameter)
    return list(groups.values())


def _decays(role: Role, configuration: OptimiserConfiguration) -> bool:
    return role in INTERNAL or (role != "norm" and configuration.decay_embeddings)


def _rate_scale(role: Role, decoder: Decoder, configuration: OptimiserConfiguration) -> float:
    if configuration.mup is not None and role in INTERNAL:
        return configuration.mup.base_width / decoder.configuration.hidden_size
    if configuration.name == "muon" and role in _ORTHOGONAL and configuration.muon.learning_rate is not None:
        return configuration.muon.learning_rate / configuration.learning_rate
    return 1.0
