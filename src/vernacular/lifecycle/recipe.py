"""The recipe: a graph of named stages, each naming the artifacts it reads.

name: demo
parameters: {corpus: null}            # null: must be given, as in `vernacular run RECIPE corpus=FOLDER`
stages:
  corpus: {do: curate, sources: [{name: own, path: "${corpus}"}]}
  tokens: {do: tokenize, documents: corpus, tokenizer: …}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from vernacular.foundation.address import is_address
from vernacular.foundation.configuration import (
    Configuration,
    Document,
    apply_override,
    parse_override,
    read_yaml,
    validate,
)
from vernacular.foundation.errors import UserError, VernacularError, unknown_name
from vernacular.foundation.explanation import KeyPath, parts_of
from vernacular.lifecycle.stage import Stage
from vernacular.lifecycle.stages.change_tokenizer import ChangeTokenizer
from vernacular.lifecycle.stages.curate import Curate
from vernacular.lifecycle.stages.evaluate import Evaluate
from vernacular.lifecycle.stages.extend_tokenizer import ExtendTokenizer
from vernacular.lifecycle.stages.merge import Merge
from vernacular.lifecycle.stages.pretrain import Pretrain
from vernacular.lifecycle.stages.publish import Publish
from vernacular.lifecycle.stages.sft import Sft
from vernacular.lifecycle.stages.tokenize import Tokenize
from vernacular.lifecycle.stages.train_quality import TrainQuality
from vernacular.lifecycle.stages.train_tokenizer import TrainTokenizer
from vernacular.lifecycle.stages.trim_tokenizer import TrimTokenizer

AnyStage = Annotated[
    Curate
    | TrainQuality
    | TrainTokenizer
    | ExtendTokenizer
    | TrimTokenizer
    | Tokenize
    | ChangeTokenizer
    | Pretrain
    | Sft
    | Merge
    | Evaluate
    | Publish,
    Field(discriminator="do"),
]
STAGES: Mapping[str, type[Stage]] = {
    "curate": Curate,
    "train-quality": TrainQuality,
    "train-tokenizer": TrainTokenizer,
    "extend-tokenizer": ExtendTokenizer,
    "trim-tokenizer": TrimTokenizer,
    "tokenize": Tokenize,
    "change-tokenizer": ChangeTokenizer,
    "pretrain": Pretrain,
    "sft": Sft,
    "merge": Merge,
    "evaluate": Evaluate,
    "publish": Publish,
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PARAMETER = re.compile(r"\$\{([^}]*)\}")


class Recipe(Configuration):
    """From text to card: named stages in any order; who reads whom gives the order they run in."""

    name: str = Field(description="artifacts lie in runs/NAME/STAGE")
    description: str = Field("", description="what this recipe makes, in a sentence")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="values to set on the command line, used as ${key}; null = must be given"
    )
    stages: dict[str, AnyStage] = Field(min_length=1, description="the stages, by name")

    _document: Document = PrivateAttr()

    @model_validator(mode="after")
    def _names_are_folders(self) -> Self:
        for name in (self.name, *self.stages):
            if not _NAME.fullmatch(name):
                raise ValueError(f"the name '{name}' cannot name a folder; use letters, digits, '.', '_' and '-'")
        return self

    def order(self) -> list[str]:
        """The stages' names such that each comes after those it reads."""
        done: list[str] = []
        waiting = list(self.stages)
        while waiting:
            ready = [name for name in waiting if not self.parents(name) - set(done)]
            if not ready:
                raise self._waiting_in_a_circle(waiting)
            done += ready
            waiting = [name for name in waiting if name not in done]
        return done

    def _waiting_in_a_circle(self, waiting: Sequence[str]) -> UserError:
        """The error for stages of which each waits for another: names those of one circle, not those behind it."""
        path = [waiting[0]]
        while True:
            following = next(name for name in waiting if name in self.parents(path[-1]))
            if following in path:
                circle = [*path[path.index(following) :], following]
                return UserError(
                    f"no stage can be the first: {' reads '.join(circle)}",
                    where=f"stages.{following}",
                    fix="let one of them read another stage, or a path",
                )
            path.append(following)

    def parents(self, name: str) -> set[str]:
        """Names of the stages that a stage reads."""
        return {value for value in self.stages[name].references().values() if value in self.stages}

    def ancestors(self, name: str) -> list[str]:
        """Names of all stages that a stage descends from, in the order they run."""
        found: set[str] = set()
        waiting = self.parents(name)
        while waiting:
            found |= waiting
            waiting = set().union(*(self.parents(parent) for parent in waiting)) - found
        return [stage for stage in self.order() if stage in found]

    @contextmanager
    def places_told(self, name: str) -> Iterator[None]:
        """Errors that come out of here and name a key of the stage's settings name its line in the recipe instead."""
        try:
            yield
        except VernacularError as error:
            key = tuple(int(part) if part.isdigit() else part for part in (error.where or "").split("."))
            if self._is_key(name, key):
                error.where = self._document.where(("stages", name, *key))
            raise

    def _is_key(self, name: str, key: KeyPath) -> bool:
        """Whether a stage has such a setting; what errors name is often a file."""
        here: Any = self.stages[name]
        for part in key:
            if part not in (below := parts_of(here)):
                return False
            here = below[part]
        return True


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, put the overrides in, fill the parameters, check everything that can be checked without running.

    Args:
        path: the YAML file.
        overrides: `stages.base.steps=200`, or `corpus=FOLDER` for a declared parameter.
    """
    document = read_yaml(path)
    value = document.value
    _check_mappings(value, document)
    for override in overrides:
        key_path, new = parse_override(override)
        value = _put(value, key_path, new, document)
        document.overrides[key_path] = override
    _check_stage_verbs(value, document)
    value = {**value, "stages": _fill(value.get("stages"), value.get("parameters") or {}, document, ("stages",))}
    _validate_stages(value, document)
    recipe = validate(Recipe, value, document)
    recipe._document = document
    _check_references(recipe, document)
    _check_order(recipe, document)
    for name, stage in recipe.stages.items():
        with recipe.places_told(name):
            stage.check()
    return recipe


def _check_order(recipe: Recipe, document: Document) -> None:
    try:
        recipe.order()
    except UserError as error:
        place = document.where(tuple((error.where or "").split(".", 1)))
        raise UserError(error.message, where=place, fix=error.fix) from error


def _check_mappings(value: Mapping[str, Any], document: Document) -> None:
    """What overrides and parameters reach into has the form for it."""
    if "stages" not in value:
        raise UserError(
            "the key 'stages' is missing", where=document.path, fix="add `stages:` with what to do below it"
        )
    for key, example in (("stages", "corpus: {do: curate, …}"), ("parameters", "corpus: null")):
        if key in value and not (isinstance(value[key], dict) or (value[key] is None and key == "parameters")):
            raise UserError(
                f"'{key}' is not a mapping", where=document.where((key,)), fix=f"write below it `{example}`"
            )


def _put(value: dict[str, Any], key_path: KeyPath, new: Any, document: Document) -> dict[str, Any]:
    parameters = value.get("parameters") or {}
    head = str(key_path[0])
    if head in parameters:
        if parameters[head] is None and new == "":
            raise UserError(
                f"'{head}' is given no value", where=f"override {head}=", fix=f"write {head}=… with something after it"
            )
        key_path = ("parameters", *key_path)
    elif head not in Recipe.model_fields:
        known = [*parameters, *Recipe.model_fields]
        raise unknown_name("parameter or key", head, known, where=f"override {head}=…, recipe {document.path}")
    elif key_path[0] == "stages" and len(key_path) > 1 and key_path[1] not in value.get("stages", {}):
        raise unknown_name("stage", str(key_path[1]), value.get("stages", {}), where="override")
    return apply_override(value, key_path, new)


def _check_stage_verbs(value: Mapping[str, Any], document: Document) -> None:
    stages = value.get("stages")
    if not isinstance(stages, dict):
        return
    for name, stage in stages.items():
        if not isinstance(stage, dict):
            raise UserError(
                f"the stage '{name}' is not a mapping", where=document.where(("stages", name)), fix="write {do: …, …}"
            )
        verb = stage.get("do")
        if verb is None:
            raise UserError(
                f"the stage '{name}' does not say what to do",
                where=document.where(("stages", name)),
                fix=f"add `do:` with one of {', '.join(STAGES)}",
            )
        if verb not in STAGES:
            raise unknown_name("verb", str(verb), STAGES, where=document.where(("stages", name, "do")))


def _validate_stages(value: Mapping[str, Any], document: Document) -> None:
    """Validate each stage by its own class first, so that an error's path is the one in the file."""
    for name, stage in (value.get("stages") or {}).items():
        validate(STAGES[stage["do"]], stage, document, ("stages", name))


def _fill(value: Any, parameters: Mapping[str, Any], document: Document, at: KeyPath) -> Any:
    """Put the parameters' values where `${key}` stands; a value that is nothing but `${key}` keeps its type."""
    if isinstance(value, dict):
        return {key: _fill(inner, parameters, document, (*at, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, parameters, document, (*at, position)) for position, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    whole = _PARAMETER.fullmatch(value)
    if whole:
        if (override := document.overrides.get((whole[1],))) is not None:
            document.overrides[at] = override
        return _parameter(whole[1], parameters, document, at)
    return _PARAMETER.sub(lambda match: str(_parameter(match[1], parameters, document, at)), value)


def _parameter(key: str, parameters: Mapping[str, Any], document: Document, at: KeyPath) -> Any:
    if not parameters:
        fix = f"declare it above the stages: `parameters: {{{key}: null}}`"
        raise UserError(f"unknown parameter '{key}'", where=document.where(at), fix=fix)
    if key not in parameters:
        raise unknown_name("parameter", key, parameters, where=document.where(at))
    if parameters[key] is None:
        missing = [name for name, value in parameters.items() if value is None]
        raise UserError(
            f"this recipe needs {', '.join(missing)}",
            where=document.where(("parameters", missing[0])),
            fix=f"give values on the command line, after {document.path}: {' '.join(f'{name}=…' for name in missing)}",
        )
    return parameters[key]


def _check_maker(recipe: Recipe, name: str, key: str, where: str) -> None:
    """The stage that a reference names makes what is read; without this it would be found out hours later."""
    stage = recipe.stages[name]
    mark, read = stage.mark(key), stage.references()[key]
    if mark is None or not mark.made_by or recipe.stages[read].do in mark.made_by:
        return
    makers = [other for other in recipe.stages if other != name and recipe.stages[other].do in mark.made_by]
    verbs = " or ".join(mark.made_by)
    raise UserError(
        f"'{name}' reads {mark.what} here, and the stage '{read}' (do: {recipe.stages[read].do}) makes none",
        where=where,
        fix=f"use one of: {', '.join(makers)}" if makers else f"name a stage that does {verbs}, or a path",
    )


def _check_references(recipe: Recipe, document: Document) -> None:
    """Every reference is a stage, or a path that exists."""
    for name, stage in recipe.stages.items():
        for key, value in stage.references().items():
            parts = (int(part) if part.isdigit() else part for part in key.split("."))
            where = document.where(("stages", name, *parts))
            if value in recipe.stages:
                if value == name:
                    raise UserError("a stage cannot read itself", where=where, fix="name another stage, or a path")
                _check_maker(recipe, name, key, where)
                continue
            if is_address(value) and stage.reads_elsewhere(key):
                continue
            if not Path(value).exists():
                others = [other for other in recipe.stages if other != name]
                raise UserError(
                    f"'{value}' is neither a stage of this recipe nor a path that exists",
                    where=where,
                    fix=unknown_name("stage", value, others).fix if others else "check the path",
                )
