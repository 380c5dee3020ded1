"""Families as data: how a published `config.json` and its tensors map to our decoder, read from `families/*.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field

from vernacular.foundation.configuration import Configuration, validate
from vernacular.foundation.errors import UserError, unknown_name
from vernacular.models.configuration import DecoderConfiguration, ModelShape


class Alternative(Configuration):
    """One way to publish something, and what it says of our configuration."""

    published: Mapping[str, Any]
    ours: Mapping[str, Any]


class Family(Configuration):
    """One published layout: its names for our configuration's keys, blocks and tensors. `llama.yaml` explains each."""

    architecture: str
    model_type: str
    becomes: str | None = Field(None, description="the family it is from then on, where its own is not written")
    blocks: Mapping[str, str]
    keys: Mapping[str, str | None]
    ratios: Mapping[str, str] = Field(default_factory=dict)
    absent: Mapping[str, Any] = Field(default_factory=dict)
    choices: Sequence[Sequence[Alternative]] = ()
    required: Mapping[str, Any] = Field(default_factory=dict)
    constants: Mapping[str, Any] = Field(default_factory=dict)
    unread: Mapping[str, Any] = Field(default_factory=dict)
    tensors: Mapping[str, str | None]
    joined: Mapping[str, Sequence[str]] = Field(default_factory=dict)

    def published_tensors(self, configuration: DecoderConfiguration) -> Iterator[PublishedTensor]:
        """The file's tensors for a decoder of this family, layer by layer; a tied head is left out."""
        tensors = {theirs: (ours,) for ours, theirs in self.tensors.items() if theirs is not None}
        for theirs, ours in (tensors | {theirs: tuple(ours) for theirs, ours in self.joined.items()}).items():
            if ours == ("head.weight",) and configuration.tie_embeddings:
                continue
            for layer in range(configuration.num_layers) if "{layer}" in theirs else (0,):
                yield PublishedTensor(
                    theirs.replace("{layer}", str(layer)), tuple(name.replace("{layer}", str(layer)) for name in ours)
                )


class PublishedTensor(NamedTuple):
    """A tensor in a file, and those of ours that stand in it one below the other (nearly always one)."""

    name: str
    ours: tuple[str, ...]


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
    return validate(Family, _read(name))


def _read(name: str) -> dict[str, Any]:
    """The file's contents over those of the family it is like."""
    if name not in family_names():
        raise unknown_name("model family", name, family_names())
    text = (files("vernacular.models") / "families" / f"{name}.yaml").read_text(encoding="utf-8")
    stated = yaml.safe_load(text)
    base = _read(stated.pop("like")) if "like" in stated else {}
    tables = {key: {**base.get(key, {}), **value} for key, value in stated.items() if isinstance(value, dict)}
    return {**base, **stated, **tables}


def family_of(config: Mapping[str, Any], where: Path) -> str:
    """The name of the family whose `model_type` a published config states."""
    by_type = {load_family(name).model_type: name for name in family_names()}
    model_type = config.get("model_type")
    if model_type is None:
        known = ", ".join(sorted(by_type))
        raise UserError("the key 'model_type' is missing", where=where, fix=f"take config.json whole; known: {known}")
    if not isinstance(model_type, str) or model_type not in by_type:
        raise unknown_name("model_type", str(model_type), by_type, where=where)
    return by_type[model_type]


def configure(shape: ModelShape, vocab_size: int, max_positions: int) -> DecoderConfiguration:
    """The decoder of a shape, of its family's blocks, for a vocabulary and a longest sequence.

    Raises:
        UserError: there is no such decoder; its place is the shape's key in a stage, as `model.family`.
    """
    if shape.family not in family_names():
        raise unknown_name("model family", shape.family, family_names(), where="model.family")
    family = load_family(shape.family)
    if family.becomes is not None:
        raise UserError(
            f"the family '{shape.family}' is read, not written",
            where="model.family",
            fix=f"say family: {family.becomes}",
        )
    values: dict[str, Any] = {
        **shape.model_dump(exclude={"num_key_value_heads", "head_dim", "activation"}),
        **family.blocks,
        "num_key_value_heads": shape.num_key_value_heads or shape.num_heads,
        "head_dim": shape.head_dim or shape.hidden_size // shape.num_heads,
        "activation": shape.activation or family.absent["activation"],
        "vocab_size": vocab_size,
        "max_positions": max_positions,
    }
    if values["attention_multiplier"] is None and "attention_multiplier" in family.absent:
        values["attention_multiplier"] = values["head_dim"] ** -0.5  # These readers take silence for 1.
    configuration = validate(DecoderConfiguration, values, at=("model",))
    # What the published layout has no word for would be lost between training and use.
    lost = _differences(configuration, from_published(to_published(configuration), Path("config.json")))
    if lost:
        raise UserError(
            f"the family '{shape.family}' has no place for {lost[0]}: {values[lost[0]]}",
            where=f"model.{lost[0]}",
            fix="leave the setting out, or choose a family that has it",
        )
    return configuration


def _differences(one: DecoderConfiguration, other: DecoderConfiguration) -> list[str]:
    return [name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)]


def to_published(configuration: DecoderConfiguration) -> dict[str, Any]:
    """The `config.json` of a decoder, without token ids and dtype."""
    family = load_family(configuration.family)
    values = configuration.model_dump()
    flat: dict[str, Any] = {theirs: values[ours] for ours, theirs in family.keys.items() if theirs is not None}
    for ours, theirs in family.ratios.items():
        ratio = values[ours] / values["hidden_size"]
        flat[theirs] = int(ratio) if ratio.is_integer() else ratio
    flat.update({**family.required, **family.constants, **family.unread})
    for alternatives in family.choices:
        flat.update(next(one.published for one in alternatives if _says(one, values)))
    config: dict[str, Any] = {"architectures": [family.architecture], "model_type": family.model_type}
    for key, value in flat.items():
        _put(config, key, value)
    if "rope_theta" in config:
        # Readers before 2026 know the key, later ones the mapping; both are written and say the same.
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": config["rope_theta"]}
    return config


def from_published(config: Mapping[str, Any], where: Path) -> DecoderConfiguration:
    """Our configuration of a published one. What our blocks do not compute is refused, naming the key."""
    name = family_of(config, where)
    family = load_family(name)
    config = _with_rope_theta(dict(config), where)
    _check_constants(family, config, where)
    values: dict[str, Any] = dict(family.absent)
    for ours, theirs in family.keys.items():
        if theirs is not None and _has(config, theirs):
            values[ours] = _get(config, theirs)
    for alternatives in family.choices:
        values.update(_choose(alternatives, config, values, where))
    if "hidden_size" in values and isinstance(values.get("num_heads"), int):
        values["head_dim"] = values.get("head_dim") or values["hidden_size"] // values["num_heads"]
        values["num_key_value_heads"] = values.get("num_key_value_heads") or values["num_heads"]
        for ours, theirs in family.ratios.items():
            values[ours] = int(values["hidden_size"] * (config.get(theirs) or values[ours]))
    missing = [theirs for ours, theirs in family.keys.items() if theirs and ours not in values and _is_required(ours)]
    if missing:
        raise UserError(f"the key '{missing[0]}' is missing", where=where, fix="take config.json from the publisher")
    try:
        return validate(DecoderConfiguration, {**values, **family.blocks, "family": family.becomes or name})
    except UserError as error:
        raise UserError(error.message, where=f"{where} ({error.where})", fix=error.fix) from error


def _check_constants(family: Family, config: Mapping[str, Any], where: Path) -> None:
    for key, expected in {**family.constants, **family.required}.items():
        found = _get(config, key) if _has(config, key) else None if key in family.required else expected
        if found != expected:
            raise UserError(
                f"'{key}: {found}' is not supported for {family.model_type}; only {expected} is",
                where=where,
                fix="use weights trained without it",
            )


def _choose(
    alternatives: Sequence[Alternative], config: Mapping[str, Any], values: Mapping[str, Any], where: Path
) -> dict[str, Any]:
    """What the alternative that the config states says of ours."""
    for one in alternatives:
        if all(_get(config, key) == value for key, value in one.published.items()):
            return {ours: values.get(said) if isinstance(said, str) and said in values else said
                    for ours, said in one.ours.items()}  # fmt: skip
    key = next(iter(alternatives[0].published))
    known = ", ".join(str(one.published[key]) for one in alternatives)
    raise UserError(f"'{key}: {_get(config, key)}' is not supported; known: {known}", where=where)


def _says(one: Alternative, values: Mapping[str, Any]) -> bool:
    """Whether the alternative says of our configuration what it is."""
    return all(values[ours] == (values.get(said, said) if isinstance(said, str) else said)
               for ours, said in one.ours.items())  # fmt: skip


def _is_required(key: str) -> bool:
    return DecoderConfiguration.model_fields[key].is_required()


def _has(config: Mapping[str, Any], key: str) -> bool:
    """Whether the config states the dotted key."""
    head, _, rest = key.partition(".")
    if head not in config:
        return False
    return not rest or (isinstance(config[head], Mapping) and _has(config[head], rest))


def _get(config: Mapping[str, Any], key: str) -> Any:
    """The dotted key's value; None where it is not stated."""
    head, _, rest = key.partition(".")
    value = config.get(head)
    if not rest:
        return value
    return _get(value, rest) if isinstance(value, Mapping) else None


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    head, _, rest = key.partition(".")
    if rest:
        _put(config.setdefault(head, {}), rest, value)
    else:
        config[head] = value


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
