"""Several weights folders of one shape and one tokenizer become one, a tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vernacular.foundation.artifact import learned_to_answer
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json_object, write_json
from vernacular.foundation.progress import progress
from vernacular.merging.blocks import blocks
from vernacular.merging.changes import add_changes
from vernacular.merging.configuration import MergeConfiguration
from vernacular.merging.linear import mean
from vernacular.merging.slerp import slerp
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.family import load_family
from vernacular.models.published_tensors import check_tensors, stated_dtype
from vernacular.models.tensor_files import TensorFolder, tensor_files, write_tensors
from vernacular.models.weights import CONFIG, GENERATION, check_has_tokenizer, copy_tokenizer, read_config, torch_dtype
from vernacular.tokens.template import ChatTemplate
from vernacular.tokens.tokenizer import Tokenizer


def merge(
    configuration: MergeConfiguration, weights: Mapping[str, Path], base: Path | None, folder: Path
) -> dict[str, Any]:
    """Write the merged weights.

    Tokenizer, chat template and what ends an answer are those of the first model with a chat template, or of the first.

    Args:
        configuration: the method, and how much each model counts.
        weights: the models' folders, by the names that errors call them, in the order of the shares.
        base: what they have all begun with, for the methods that merge changes.
        folder: receives the weights.

    Returns:
        The summary: parameters, and each model's share and distance from the merged weights, as a part of their length.

    Raises:
        UserError: the models differ in shape, tokenizer or chat template, or their number does not fit the method.
    """
    configuration.require_models(len(weights), has_base=base is not None)
    everyone = {**weights, **({} if base is None else {"the base": base})}
    shape = _common_shape(everyone)
    _require_one_tokenizer(everyone)
    speaker = _speaker(weights)
    position = 0.5 if configuration.position is None else configuration.position
    shares = (1 - position, position) if configuration.method == "slerp" else configuration.shares
    shares = shares or (1.0,) * len(weights)
    dtype, distances = _write_tensors(configuration, weights, shares, base, shape, folder)
    config = read_json_object(speaker / CONFIG)
    write_json(folder / CONFIG, {**config, "dtype": dtype, "torch_dtype": dtype})
    if (speaker / GENERATION).is_file():
        write_json(folder / GENERATION, read_json_object(speaker / GENERATION))
    copy_tokenizer(speaker, folder)
    answers = {learned_to_answer(one) for one in weights.values()}
    return {
        "parameters": shape.num_parameters(),
        "models": [
            {"name": name, "share": share, "distance": round(distance, 6)}
            for name, share, distance in zip(weights, shares, distances, strict=True)
        ],
        "learned_to_answer": answers.pop() if len(answers) == 1 else None,
    }


def _common_shape(folders: Mapping[str, Path]) -> DecoderConfiguration:
    """The configuration that all models have."""
    shapes = {name: read_config(folder) for name, folder in folders.items()}
    (first, common), *others = shapes.items()
    for name, shape in others:
        if shape != common:
            ours, theirs = common.model_dump(), shape.model_dump()
            key = next(key for key in ours if ours[key] != theirs[key])
            raise UserError(
                f"{first} and {name} are not of one shape: {key} is {ours[key]} and {theirs[key]}",
                where=folders[name] / CONFIG,
                fix="merge models that were trained from the same weights",
            )
    return common


def _require_one_tokenizer(folders: Mapping[str, Path]) -> None:
    for folder in folders.values():
        check_has_tokenizer(folder)
    hashes = {name: Tokenizer.load(folder).hash for name, folder in folders.items()}
    (first, common), *others = hashes.items()
    for name, found in others:
        if found != common:
            raise UserError(
                f"{first} and {name} have different tokenizers, so their rows stand for different tokens",
                where=folders[name],
                fix="give one of them the other's tokenizer first, by a stage change-tokenizer",
            )


def _speaker(weights: Mapping[str, Path]) -> Path:
    """The model whose chat template the merged one has; all templates must be one."""
    found = {name: ChatTemplate.find(folder) for name, folder in weights.items()}
    templates = {name: template.hash for name, template in found.items() if template is not None}
    first = next(iter(templates or weights))
    for name, template in templates.items():
        if template != templates[first]:
            raise UserError(
                f"{first} and {name} have different chat templates, so they were taught to answer in different words",
                where=weights[name],
                fix="merge models that were tuned with one template",
            )
    return weights[first]


def _write_tensors(
    configuration: MergeConfiguration,
    weights: Mapping[str, Path],
    shares: Sequence[float],
    base: Path | None,
    shape: DecoderConfiguration,
    folder: Path,
) -> tuple[str, list[float]]:
    """Merge and write each tensor; the name of their dtype, and each model's distance."""
    names = [name for name, _ in load_family(shape.family).published_tensors(shape)]
    squares = torch.zeros(len(weights) + 1, dtype=torch.float64)
    with ExitStack() as stack, progress(doing="tensors", total=len(names), unit="tensors") as bar:

        def opened(place: Path) -> TensorFolder:
            tensors = stack.enter_context(TensorFolder(tensor_files(place)))
            check_tensors(tensors, shape, place)
            return tensors

        models = [opened(place) for place in weights.values()]
        origin = None if base is None else opened(base)
        facts = [models[0].facts[name] for name in names]
        if configuration.dtype is not None:
            facts = [one._replace(dtype=torch_dtype(configuration.dtype)) for one in facts]

        def merged(name: str) -> Tensor:
            tensors = [model.read(name) for model in models]
            result = _merge(configuration, tensors, shares, None if origin is None else origin.read(name), name)
            found = _squares(result, tensors)
            if not found.isfinite().all():
                raise UserError(
                    f"the merged tensor '{name}' holds what is no finite number",
                    where=", ".join(_not_finite(weights, tensors)) or "scale",
                    fix="leave models out whose weights are broken; take smaller shares, or a smaller scale",
                )
            squares.add_(found)
            bar.update(1)
            return result

        write_tensors(folder, facts, merged)
    length, *distances = squares.sqrt().tolist()
    return stated_dtype(facts), [distance / length if length else 0.0 for distance in distances]


def _squares(merged: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Of the merged tensor, and of what lies between it and each model's, float64."""
    sums = torch.zeros(len(tensors) + 1, dtype=torch.float64)
    for merged_N, *own_MN in blocks(merged, *tensors):
        parts = (merged_N, *(own.float() - merged_N for own in own_MN))
        sums.add_(torch.stack([part.square().sum() for part in parts]))
    return sums


def _merge(
    configuration: MergeConfiguration,
    tensors: Sequence[Tensor],
    shares: Sequence[float],
    base: Tensor | None,
    name: str,
) -> Tensor:
    if base is not None:
        return add_changes(base, tensors, shares, configuration, name)
    if configuration.method == "slerp":
        first, second = tensors
        return slerp(first, second, shares[1])
    return mean(tensors, shares)


def _not_finite(weights: Mapping[str, Path], tensors: Sequence[Tensor]) -> list[str]:
    """The models whose own tensor is broken."""
    return [name for name, tensor in zip(weights, tensors, strict=True) if not tensor.isfinite().all()]
