"""Families as data: how a published `config.json` and its tensors map to our decoder, read from `families/*.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from vernacular.foundation.configuration import Configuration, validate
from vernacular.foundation.errors import UserError, unknown_name
from vernacular.models.configuration import DecoderConfiguration

# What older and newer writers of config.json leave out because their readers assume it.
_ASSUMED_IN_CONFIG = {"attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "pretraining_tp": 1}


class Family(Configuration):
    """One published layout: its names for our configuration's keys, blocks and tensors."""

    architecture: str
    model_type: str
    blocks: Mapping[str, str]
    keys: Mapping[str, str]
    constants: Mapping[str, Any]
    tensors: Mapping[str, str]

    def tensor_names(self, configuration: DecoderConfiguration) -> Iterator[tuple[str, str]]:
        """Pairs (our tensor, the file's tensor) for a decoder of this family; tied heads are left out."""
        for ours, theirs in self.tensors.items():
            if ours == "head.weight" and configuration.tie_embeddings:
                continue
            layers = range(configuration.num_layers) if "{layer}" in ours else (None,)
            for layer in layers:
                yield ours.replace("{layer}", str(layer)), theirs.replace("{layer}", str(layer))


def family_names() -> list[str]:
    """Names of all families."""
    return sorted(
        path.name.removesuffix(".yaml")
        for path in (files("vernacular.models") / "families").iterdir()
        if path.name.endswith(".yaml")
    )


@cache
def load_family(name: str) -> Family:
    """The family of this name; an unknown one is refused with the known ones listed."""
    if name not in family_names():
        raise unknown_name("model family", name, family_names())
    text = (files("vernacular.models") / "families" / f"{name}.yaml").read_text(encoding="utf-8")
    return validate(Family, yaml.safe_load(text))


def family_of(config: Mapping[str, Any], where: Path) -> str:
    """The name of the family whose `model_type` a published config states."""
    by_type = {load_family(name).model_type: name for name in family_names()}
    model_type = config.get("model_type")
    if model_type not in by_type:
        raise unknown_name("model_type", str(model_type), by_type, where=where)
    return by_type[model_type]


def to_published(configuration: DecoderConfiguration) -> dict[str, Any]:
    """The `config.json` of a decoder, without token ids and dtype."""
    family = load_family(configuration.family)
    values = configuration.model_dump()
    config: dict[str, Any] = {"architectures": [family.architecture], "model_type": family.model_type}
    config.update({theirs: values[ours] for ours, theirs in family.keys.items()})
    config.update(family.constants)
    if "rope_theta" in config:
        # Readers before 2026 know the key, later ones the mapping; both are written and say the same.
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": config["rope_theta"]}
    return config


def from_published(config: Mapping[str, Any], where: Path) -> DecoderConfiguration:
    """Our configuration of a published one. What our blocks do not compute is refused, naming the key."""
    name = family_of(config, where)
    family = load_family(name)
    config = _with_rope_theta(dict(config), where)
    for key, expected in family.constants.items():
        found = config.get(key, _ASSUMED_IN_CONFIG.get(key))
        if found != expected:
            raise UserError(
                f"'{key}: {found}' is not supported for {family.model_type}; only {expected} is",
                where=where,
                fix="use weights trained without it",
            )
    values: dict[str, Any] = {ours: config[theirs] for ours, theirs in family.keys.items() if theirs in config}
    if values.get("head_dim") is None and "hidden_size" in values and "num_heads" in values:
        values["head_dim"] = values["hidden_size"] // values["num_heads"]
    if values.get("num_key_value_heads") is None and "num_heads" in values:
        values["num_key_value_heads"] = values["num_heads"]
    missing = [theirs for ours, theirs in family.keys.items() if ours not in values and _is_required(ours)]
    if missing:
        raise UserError(f"the key '{missing[0]}' is missing", where=where, fix="take config.json from the publisher")
    try:
        return validate(DecoderConfiguration, {**values, **family.blocks, "family": name})
    except UserError as error:
        raise UserError(error.message, where=f"{where} ({error.where})", fix=error.fix) from error


def _is_required(key: str) -> bool:
    return DecoderConfiguration.model_fields[key].is_required()


def _with_rope_theta(config: dict[str, Any], where: Path) -> dict[str, Any]:
    parameters = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling")
    kind = parameters.get("rope_type", "default")
    if scaling or kind != "default":
        raise UserError(
            f"scaled rotary positions ({scaling or kind}) are not supported",
            where=f"{where} (rope_scaling)",
            fix="use weights with plain rotary positions",
        )
    theta = parameters.get("rope_theta")
    if theta is not None and config.get("rope_theta", theta) != theta:
        raise UserError(
            f"rope_theta is {config['rope_theta']} but rope_parameters says {theta}",
            where=where,
            fix="make them agree",
        )
    if theta is not None:
        config["rope_theta"] = theta
    return config
