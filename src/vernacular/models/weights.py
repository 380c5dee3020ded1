"""Weights at rest: always a Hugging Face folder (config.json, safetensors, tokenizer, chat template)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vernacular.foundation.errors import UserError, no_folder, unknown_name
from vernacular.foundation.files import atomic_path, read_json_object, sha256_file, sha256_json, write_json
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.models.family import from_published, load_family, to_published
from vernacular.models.tensor_files import SHARD_BYTES, TensorFacts, TensorFolder, tensor_files, write_tensors
from vernacular.tokens.tokenizer import Tokenizer

CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
)
TIED_HEAD = "lm_head.weight"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def check_dtype(name: str | None, known: Iterable[str]) -> None:
    """Refuse a name that is not among the known ones; None is the default and is taken. Raises `UserError`."""
    if name is not None and name not in (names := set(known)):
        raise unknown_name("dtype", name, names, where="--dtype")


def torch_dtype(name: str) -> torch.dtype:
    """The dtype of this name; others than float32 and bfloat16 are refused."""
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES)
    return DTYPES[name]


def save_weights(
    folder: Path,
    decoder: Decoder,
    *,
    token_ids: Mapping[str, int | None],
    dtype: str = "float32",
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write config.json, generation_config.json and model.safetensors into `folder`, each atomically.

    Args:
        folder: the weights folder.
        decoder: what to write.
        token_ids: `bos_token_id`, `eos_token_id` and `pad_token_id`, null where there is none.
        dtype: precision of the tensors on disk.
        shard_bytes: above it, the tensors are written in shards with an index.
    """
    config = {**to_published(decoder.configuration), **token_ids, "dtype": dtype, "torch_dtype": dtype}
    write_json(folder / CONFIG, config)
    write_json(folder / GENERATION, {**token_ids, "do_sample": False})
    state = decoder.state_dict()
    published = load_family(decoder.configuration.family).published_tensors(decoder.configuration)
    parts = {name: [state[part] for part in ours] for name, ours in published}
    shapes = {name: (sum(map(len, tensors)), *tensors[0].shape[1:]) for name, tensors in parts.items()}
    facts = [TensorFacts(name, torch_dtype(dtype), shape) for name, shape in shapes.items()]
    write_tensors(folder, facts, lambda name: _joined(parts[name]), shard_bytes)


def published_token_ids(tokenizer: Tokenizer) -> dict[str, int | None]:
    """The ids that config.json names: begin, end and padding; null for one that the tokenizer does not name."""
    return {f"{name}_id": tokenizer.named_id(name) for name in ("bos_token", "eos_token", "pad_token")}


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files and the chat template from one folder into another."""
    check_has_tokenizer(source)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(source / name, temporary)


def stated_end_ids(folder: Path) -> list[int]:
    """Tokens that end an answer, as the folder names them; ids that are none of the vocabulary are refused."""
    for name in (GENERATION, CONFIG):
        if (folder / name).is_file() and (named := read_json_object(folder / name).get("eos_token_id")) is not None:
            check_token_ids("eos_token_id", named, _stated_vocabulary(folder), folder / name)
            return named if isinstance(named, list) else [named]
    return []


def _stated_vocabulary(folder: Path) -> int | None:
    """What config.json says, though its family be none of ours: another engine may compute it, or there is no file."""
    stated = read_json_object(folder / CONFIG).get("vocab_size") if (folder / CONFIG).is_file() else None
    return stated if isinstance(stated, int) else None


def check_token_ids(key: str, stated: Any, vocab_size: int | None, where: Path) -> None:
    """Refuse what a file states under `key` if it is neither an id of the vocabulary nor a list of some."""
    ids = stated if isinstance(stated, list) else [stated]
    if not ids or not all(type(token) is int and 0 <= token < (vocab_size or token + 1) for token in ids):
        of = f" of a vocabulary of {vocab_size}" if vocab_size else " of a token"
        raise UserError(
            f"{key} is {json.dumps(stated, ensure_ascii=False)}, which is no id{of}",
            where=f"{where} ({key})",
            fix="set it to the token's id, or to null",
        )


def check_has_tokenizer(folder: Path) -> None:
    """Refuse a folder without a tokenizer."""
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            "the weights folder has no tokenizer (tokenizer.json)",
            where=folder,
            fix="copy tokenizer.json and tokenizer_config.json of the tokenizer it was trained with into the folder",
        )


def read_config(folder: Path) -> DecoderConfiguration:
    """The decoder's configuration, from the folder's config.json."""
    if not folder.is_dir():
        raise no_folder("the weights folder does not exist", folder)
    if not (folder / CONFIG).is_file():
        raise UserError(f"the folder has no {CONFIG}, so it holds no weights", where=folder, fix="check the path")
    return from_published(read_json_object(folder / CONFIG), folder / CONFIG)


def load_decoder(folder: Path, dtype: str = "float32", device: str = "cpu") -> Decoder:
    """Build the decoder of a weights folder and fill it, tensor by tensor.

    Nothing is drawn or allocated twice, and one tensor is mapped at a time: the peak is the weights and that tensor.
    A missing, surplus or misshapen tensor is refused by name; so is a truncated file.
    """
    decoder = unfilled_decoder(folder, dtype, device)
    with StoredWeights(folder, decoder) as stored, torch.no_grad():
        for name, parameter in decoder.named_parameters():
            parameter.copy_(stored.read(name))
    return decoder


def hollow_decoder(configuration: DecoderConfiguration) -> Decoder:
    """A decoder whose weights have shapes and no storage: they are on the meta device."""
    with Unfilled(torch.float32, torch.device("meta")):
        return Decoder(configuration)


def stored_values(folder: Path, decoder: Decoder) -> Iterator[tuple[str, Tensor]]:
    """The weights of a folder by the decoder's own names, one after the other, each mapped when its turn comes.

    The decoder is asked for its shapes alone, and now. Errors are those of `StoredWeights`, and are raised now too.
    """
    return _values_of(StoredWeights(folder, decoder), [name for name, _ in decoder.named_parameters()])


def _values_of(stored: StoredWeights, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    with stored:
        for name in names:
            yield name, stored.read(name)


def unfilled_decoder(folder: Path, dtype: str, device: str = "cpu") -> Decoder:
    """The decoder of a weights folder, in evaluation mode, its weights still to be read: they take no memory yet."""
    configuration = read_config(folder)
    with Unfilled(torch_dtype(dtype), torch.device(device)):
        decoder = Decoder(configuration)
    return decoder.to(device, torch_dtype(dtype)).eval()  # `to`: what a block may have placed itself


class StoredWeights:
    """A folder's weights under the decoder's own names, each mapped when it is read; a context manager.

    Raises:
        UserError: a tensor is missing, surplus or misshapen, or a file truncated. Nothing has been read then.
    """

    def __init__(self, folder: Path, decoder: Decoder) -> None:
        configuration = decoder.configuration
        shapes = {name: parameter.shape for name, parameter in decoder.named_parameters()}
        wanted = dict(load_family(configuration.family).published_tensors(configuration))
        self._tensors = TensorFolder(tensor_files(folder))
        self._places: dict[str, tuple[str, slice]] = {}
        for name, facts in self._tensors.facts.items():
            file = self._tensors.files[name]
            if name == TIED_HEAD and configuration.tie_embeddings:
                continue  # Some writers store the tied head a second time.
            if name not in wanted:
                raise surplus_tensor(name, file)
            parts = wanted.pop(name)
            ends = list(accumulate(shapes[part][0] for part in parts))
            check_shape(facts, (ends[-1], *shapes[parts[0]][1:]), file)
            for part, start, end in zip(parts, (0, *ends), ends, strict=False):
                self._places[part] = name, slice(start, end)
        if wanted:
            raise missing_tensor(next(iter(wanted)), folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors.__exit__()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def read(self, name: str) -> Tensor:
        """The weight, as it is stored; its memory goes when it does."""
        stored, rows = self._places[name]
        return self._tensors.read(stored)[rows]


class Unfilled(TorchFunctionMode):
    """While it is active, modules get parameters of one dtype on one device, whose values are left as they are.

    Building on the meta device first, the usual way, costs a second: it imports PyTorch's compiler.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self._placed = {"dtype": dtype, "device": device}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Leave initialisation out; place what is made without a dtype of its own."""
        kwargs = kwargs or {}
        if function in _INITIALISATIONS:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if function in (torch.empty, torch.ones) and kwargs.get("dtype") is None:
            kwargs = {**kwargs, **self._placed}
        return function(*args, **kwargs)


_INITIALISATIONS = (nn.init.kaiming_uniform_, nn.init.normal_)


def weights_hash(folder: Path) -> str:
    """One hash of config and tensors: which weights a score belongs to."""
    files = [folder / CONFIG, *tensor_files(folder)]
    return sha256_json({file.name: sha256_file(file) for file in files})


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The parts, one below the other."""
    return parts[0].detach() if len(parts) == 1 else torch.cat([part.detach() for part in parts])


def missing_tensor(name: str, where: Path) -> UserError:
    """The error for a tensor that no file of the folder has."""
    return UserError(f"the tensor '{name}' is missing", where=where, fix="download or export the weights again")


def surplus_tensor(name: str, where: Path) -> UserError:
    """The error for a tensor that the configuration has no place for."""
    return UserError(f"unexpected tensor '{name}'", where=where, fix="config.json and tensors disagree")


def check_shape(facts: TensorFacts, shape: Sequence[int], where: Path) -> None:
    """Refuse a tensor that is not of the shape that the configuration asks for."""
    if facts.shape != tuple(shape):
        raise UserError(
            f"the tensor '{facts.name}' is {list(facts.shape)}; config.json asks for {list(shape)}",
            where=where,
            fix="config.json and tensors disagree",
        )
