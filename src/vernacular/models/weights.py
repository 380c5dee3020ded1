"""Weights at rest: always a Hugging Face folder (config.json, safetensors, tokenizer, chat template)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vernacular.foundation.errors import UserError, unknown_name
from vernacular.foundation.files import atomic_path, read_json, sha256_file, sha256_json, write_json
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.models.family import from_published, load_family, to_published
from vernacular.tokens.tokenizer import Tokenizer

CONFIG = "config.json"
TENSORS = "model.safetensors"
INDEX = "model.safetensors.index.json"
GENERATION = "generation_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def torch_dtype(name: str) -> torch.dtype:
    """The dtype of this name; others than float32 and bfloat16 are refused."""
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES)
    return DTYPES[name]


def save_weights(folder: Path, decoder: Decoder, *, token_ids: Mapping[str, int | None], dtype: str = "float32") -> None:
    """Write config.json, generation_config.json and model.safetensors into `folder`, each atomically.

    Args:
        folder: the weights folder.
        decoder: what to write.
        token_ids: `bos_token_id`, `eos_token_id` and `pad_token_id`, null where there is none.
        dtype: precision of the tensors on disk.
    """
    config = {**to_published(decoder.configuration), **token_ids, "dtype": dtype, "torch_dtype": dtype}
    write_json(folder / CONFIG, config)
    write_json(folder / GENERATION, {**token_ids, "do_sample": False})
    state = decoder.state_dict()
    published = load_family(decoder.configuration.family).published_tensors(decoder.configuration)
    tensors = {
        name: _joined([state[part] for part in ours]).to("cpu", torch_dtype(dtype)).contiguous()
        for name, ours in published
    }
    with atomic_path(folder / TENSORS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


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
        raise UserError("the weights folder does not exist", where=folder, fix="check the path")
    if not (folder / CONFIG).is_file():
        raise UserError(f"the folder has no {CONFIG}, so it holds no weights", where=folder, fix="check the path")
    return from_published(read_json(folder / CONFIG), folder / CONFIG)


def load_decoder(folder: Path, dtype: str = "float32", device: str = "cpu") -> Decoder:
    """Build the decoder of a weights folder and fill it, tensor by tensor.

    A missing, surplus or misshapen tensor is refused by name; so is a truncated file.
    """
    configuration = read_config(folder)
    with torch.device("meta"):
        decoder = Decoder(configuration).to(torch_dtype(dtype))
    decoder = decoder.to_empty(device=device)
    if configuration.tie_embeddings:
        decoder.head.weight = decoder.embedding.weight
    wanted = dict(load_family(configuration.family).published_tensors(configuration))
    state = decoder.state_dict()
    for file in tensor_files(folder):
        _fill(state, file, wanted, tied=configuration.tie_embeddings)
    if wanted:
        missing = next(iter(wanted))
        raise UserError(f"the tensor '{missing}' is missing", where=folder, fix="download or export the weights again")
    return decoder.eval()


def tensor_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, one or sharded."""
    is_sharded = (folder / INDEX).is_file()
    names = sorted(set(read_json(folder / INDEX)["weight_map"].values())) if is_sharded else [TENSORS]
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"the weights file {name} is missing", where=folder, fix="download or export it again")
    return [folder / name for name in names]


def weights_hash(folder: Path) -> str:
    """One hash of config and tensors: which weights a score belongs to."""
    files = [folder / CONFIG, *tensor_files(folder)]
    return sha256_json({file.name: sha256_file(file) for file in files})


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The parts, one below the other."""
    return parts[0].detach() if len(parts) == 1 else torch.cat([part.detach() for part in parts])


@torch.no_grad()
def _fill(state: Mapping[str, Tensor], file: Path, wanted: dict[str, tuple[str, ...]], *, tied: bool) -> None:
    """Copy a file's tensors into `state`, taking the name of each out of `wanted`."""
    try:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                if name == "lm_head.weight" and tied:
                    continue  # Some writers store the tied head a second time.
                if name not in wanted:
                    raise UserError(f"unexpected tensor '{name}'", where=file, fix="config.json and tensors disagree")
                targets = [state[part] for part in wanted.pop(name)]
                value = tensors.get_tensor(name)
                rows = [len(target) for target in targets]
                shape = [sum(rows), *targets[0].shape[1:]]
                if list(value.shape) != shape:
                    raise UserError(
                        f"the tensor '{name}' is {list(value.shape)}; config.json asks for {shape}",
                        where=file,
                        fix="config.json and tensors disagree",
                    )
                for target, part in zip(targets, value.split(rows), strict=True):
                    target.copy_(part)
    except SafetensorError as error:
        raise UserError(
            f"the weights file cannot be read: {error}", where=file, fix="it may be truncated; fetch it again"
        ) from error
