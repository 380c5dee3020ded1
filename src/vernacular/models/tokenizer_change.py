"""Weights get another tokenizer: kept tokens take their rows with them, new ones get rows made of old ones.

All other tensors are copied as they are, one at a time. So the scores of kept tokens are what they were, for every text
whose ids are what they were.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json_object, write_json
from vernacular.foundation.progress import progress
from vernacular.models.configuration import ChangeTokenizerConfiguration
from vernacular.models.family import load_family, to_published
from vernacular.models.published_tensors import check_tensors
from vernacular.models.published_tokens import ID_KEYS
from vernacular.models.tensor_files import TensorFolder, tensor_files, write_tensors
from vernacular.models.token_rows import TokenRows
from vernacular.models.weights import CONFIG, GENERATION, check_has_tokenizer, copy_tokenizer, read_config
from vernacular.tokens.byte_pairs import BytePairs
from vernacular.tokens.token_map import TokenMap, map_tokens
from vernacular.tokens.tokenizer import Tokenizer

_TABLES = {"embedding.weight": "embedding", "head.weight": "head"}


def change_tokenizer(
    configuration: ChangeTokenizerConfiguration, weights: Path, tokenizer: Path, folder: Path
) -> dict[str, Any]:
    """Write a weights folder with another tokenizer.

    Args:
        configuration: how the rows of new tokens are made.
        weights: the weights folder to begin with.
        tokenizer: the folder of the new tokenizer, with its chat template if it has one.
        folder: receives the weights and `token_map.json`.

    Returns:
        The summary: tokens kept, new and left out, rows, parameters.

    Raises:
        UserError: a special token that config.json names is gone, the old tokenizer is none of byte pairs, or it does
            not fit the weights.
    """
    check_has_tokenizer(weights)
    old, new, shape = BytePairs(weights), Tokenizer.load(tokenizer), read_config(weights)
    if old.tokenizer.vocab_size > shape.vocab_size:
        raise UserError(
            f"the tokenizer has {old.tokenizer.vocab_size} tokens, the weights only {shape.vocab_size}",
            where=weights,
            fix="put the tokenizer the weights were trained with into the folder",
        )
    tokens = map_tokens(old, new)
    num_rows = -(-new.vocab_size // configuration.multiple_of) * configuration.multiple_of
    rows = TokenRows(configuration, tokens, old.tokenizer, new, num_rows)
    changed = shape.model_copy(update={"vocab_size": num_rows})
    dtype = _write_tensors(weights, folder, rows, num_rows)
    config = read_json_object(weights / CONFIG)
    ids = _renumbered(config, tokens, new, weights / CONFIG)
    write_json(folder / CONFIG, {**to_published(changed), **ids, "dtype": dtype, "torch_dtype": dtype})
    generation = read_json_object(weights / GENERATION) if (weights / GENERATION).is_file() else {"do_sample": False}
    stated = {key: generation.get(key, config.get(key)) for key in ID_KEYS}
    write_json(folder / GENERATION, {**generation, **_renumbered(stated, tokens, new, weights / GENERATION)})
    copy_tokenizer(tokenizer, folder)
    tokens.save(folder)
    return {
        "parameters": changed.num_parameters(),
        "vocab_size": new.vocab_size,
        "rows": num_rows,
        "kept_tokens": len(tokens.kept),
        "new_tokens": len(tokens.pieces),
        "new_tokens_with_a_vector": rows.with_vector if configuration.vectors is not None else None,
        "left_out_tokens": len(set(old.ids.values()) - set(tokens.kept.values())),
        "tokenizer_hash": new.hash,
        "old_tokenizer_hash": old.tokenizer.hash,
    }


def _write_tensors(weights: Path, folder: Path, rows: TokenRows, num_rows: int) -> str:
    """Copy all tensors, the tables changed; the name of the tables' dtype."""
    shape = read_config(weights)
    wanted = list(load_family(shape.family).published_tensors(shape))
    tables = {theirs: _TABLES[ours[0]] for theirs, ours in wanted if ours[0] in _TABLES}
    with TensorFolder(tensor_files(weights)) as tensors, progress(doing="tensors", total=len(wanted)) as bar:
        check_tensors(tensors, shape, weights)
        facts = [tensors.facts[name] for name, _ in wanted]
        written = [one._replace(shape=(num_rows, *one.shape[1:])) if one.name in tables else one for one in facts]

        def read(name: str) -> torch.Tensor:
            bar.update(1)
            tensor = tensors.read(name)
            return rows.table(tensor, tables[name]) if name in tables else tensor

        write_tensors(folder, written, read)
    return str(next(one.dtype for one in facts if one.name in tables)).removeprefix("torch.")


def _renumbered(stated: dict[str, Any], tokens: TokenMap, new: Tokenizer, where: Path) -> dict[str, Any]:
    """The ids of begin, end and padding under their new numbers; where none is stated, those the tokenizer names."""
    found: dict[str, Any] = {}
    for key in ID_KEYS:
        ids = stated.get(key)
        if ids is None:
            found[key] = new.named_id(key.removesuffix("_id"))
            continue
        renumbered = [tokens.renumbered(old_id) for old_id in (ids if isinstance(ids, list) else [ids])]
        if None in renumbered:
            raise UserError(
                f"{key} is {ids}, which the new tokenizer has no token for",
                where=f"{where} ({key})",
                fix="keep this token in the new tokenizer, or set the key to another one first",
            )
        found[key] = renumbered if isinstance(ids, list) else renumbered[0]
    return found
