"""The bridge: published checkpoints in, our weights out; our weights out for others to use.

A weights folder is a published one in its canonical form: the same tensors under the same names, a `config.json` that
says all that the arithmetic depends on and nothing else, one chat template in one place, no remote code. So that form
is also what is handed on: import, export and import again give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vernacular.foundation.errors import UserError, no_folder, unknown_name
from vernacular.foundation.files import atomic_folder, files_under, read_json_object, sha256_file, write_json
from vernacular.foundation.progress import progress
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.family import family_of, from_published, load_family, to_published
from vernacular.models.published_tensors import copy_tensors
from vernacular.models.published_tokens import (
    check_template,
    published_generation,
    published_ids,
    write_template,
    write_tokenizer,
)
from vernacular.models.tensor_files import INDEX, SHARD_BYTES
from vernacular.models.weights import (
    CONFIG,
    DTYPES,
    GENERATION,
    TOKENIZER_FILES,
    check_dtype,
    check_has_tokenizer,
    read_config,
)

PROVENANCE = "provenance.json"
FORMATS = ("transformers", "gguf")
_BYTES_WITHOUT_BAR = 1 << 30
_TENSOR_FILE = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_NAMED_FILES = 5
Window = int | Literal["keep"] | None


@dataclass(frozen=True)
class Bridged:
    """What was written, and what its reader should know.

    Attributes:
        folder: where.
        family: the family that config.json names.
        num_parameters: weights, all experts counted.
        files: the files written.
        notes: sentences about what was changed, left out, or needs a particular reader.
    """

    folder: Path
    family: str
    num_parameters: int
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def import_weights(
    source: Path,
    out: Path,
    *,
    dtype: str | None = None,
    window: Window = "keep",
    template: str | Path | None = None,
    shard_bytes: int = SHARD_BYTES,
    force: bool = False,
) -> Bridged:
    """Read a published Hugging Face folder and write it as a weights folder.

    Read are safetensors and legacy `.bin` files, single or sharded; the config of any family (`parambharatgen` becomes
    plain `llama`); `tokenizer.json` or a SentencePiece `tokenizer.model`; the chat template wherever it stands. At most
    one shard is held in memory. `provenance.json` records the source's files with their SHA-256.

    Args:
        source: the published folder.
        out: the folder to write; appears when it is whole.
        dtype: "float32" or "bfloat16"; None keeps each tensor as it is stored.
        window: keys a token may look at, None for all before it, "keep" for what config.json says.
        template: the name of a chat template that Vernacular knows, or a Jinja file; None keeps the folder's own.
        shard_bytes: most bytes of tensors in a file.
        force: replace `out` where it exists and holds weights only.

    Raises:
        UserError: a tensor is missing, surplus or misshapen, a file is truncated or holds more than plain tensors, the
            config is of no family, quantised, or asks for what our blocks do not compute; or `out` exists.
    """
    check_dtype(dtype, DTYPES)
    check_template(template)
    config, configuration = _read_published(source)
    configuration = _with_window(configuration, window)
    notes: list[str] = []
    _check_out(source, out, force=force)
    with atomic_folder(out) as folder:
        tokenizer = write_tokenizer(source, folder, configuration.vocab_size)
        write_template(source, folder, tokenizer, template)
        stored = copy_tensors(source, folder, configuration, dtype=dtype, shard_bytes=shard_bytes)
        token_ids = published_ids(config, tokenizer, configuration.vocab_size, source / CONFIG)
        generation, left_out = published_generation(source, token_ids, configuration.vocab_size)
        notes += left_out
        write_json(folder / GENERATION, generation)
        write_json(
            folder / CONFIG, {**to_published(configuration), **token_ids, "dtype": stored, "torch_dtype": stored}
        )
        settings = {"dtype": dtype, "window": window, "template": str(template) if template is not None else None}
        write_json(folder / PROVENANCE, _provenance(source, str(config["model_type"]), settings))
    if configuration.family != family_of(config, source / CONFIG):
        notes.append(f"{config['model_type']} is written as {configuration.family}; no remote code is needed any more")
    if "auto_map" in config or list(source.glob("*.py")):
        notes.append("the publisher's code (*.py) was left behind")
    return _bridged(out, configuration, notes)


def export_weights(
    weights: Path,
    out: Path,
    format: str = "transformers",
    *,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    force: bool = False,
    ids_only: bool = False,
) -> Bridged:
    """Write a weights folder for others to use.

    Args:
        weights: a weights folder.
        out: for `transformers` a folder; for `gguf` a file.
        format: "transformers": a folder that transformers, vLLM and llama.cpp's converter load, without remote code
            wherever they have the class; "gguf": one file for llama.cpp.
        dtype: "float32", "bfloat16", for gguf also "float16" and "q8_0"; None keeps the tensors as they are stored.
        shard_bytes: most bytes of tensors in a file (transformers).
        force: replace `out` where it exists and holds weights only.
        ids_only: gguf: write it even where llama.cpp would cut text into other tokens than our tokenizer does.

    Raises:
        UserError: the folder is no weights folder, the format cannot say what the model is, or `out` exists.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if format == "gguf":
        from vernacular.models.gguf.export import write_gguf  # needs the extra
        from vernacular.models.gguf.tensors import TYPES

        check_dtype(dtype, TYPES)
    else:
        check_dtype(dtype, DTYPES)
    configuration = read_config(weights)
    check_has_tokenizer(weights)
    if format == "gguf":
        _check_apart(weights, out)
        notes = write_gguf(weights, out, dtype=dtype, force=force, ids_only=ids_only)
        return Bridged(out, configuration.family, configuration.num_parameters(), (out,), tuple(notes))
    config = read_json_object(weights / CONFIG)
    _check_out(weights, out, force=force)
    with atomic_folder(out) as folder:
        tokenizer = write_tokenizer(weights, folder, configuration.vocab_size)
        write_template(weights, folder, tokenizer, None)
        stored = copy_tensors(weights, folder, configuration, dtype=dtype, shard_bytes=shard_bytes)
        if (weights / GENERATION).is_file():
            write_json(folder / GENERATION, read_json_object(weights / GENERATION))
        write_json(folder / CONFIG, {**config, "dtype": stored, "torch_dtype": stored})
    return _bridged(out, configuration, readers_notes(configuration))


def readers_notes(configuration: DecoderConfiguration) -> list[str]:
    """Why transformers' own class does not compute this model, where it does not.

    Its MPT has as many key heads as query heads, a feed-forward four times as wide as the model with the exact GELU,
    and ALiBi slopes of the usual base; llm-foundry's class (`trust_remote_code`, or the package) reads the settings.
    """
    if configuration.family != "mpt":
        return []
    unread = {
        f"{configuration.num_key_value_heads} key heads for {configuration.num_heads} query heads": (
            configuration.num_key_value_heads != configuration.num_heads
        ),
        f"the activation {configuration.activation}": configuration.activation != "gelu",
        f"a feed-forward of {configuration.intermediate_size} for a width of {configuration.hidden_size}": (
            configuration.intermediate_size != 4 * configuration.hidden_size
        ),
        f"alibi_bias_max {configuration.alibi_bias_max}": configuration.alibi_bias_max != 8,
    }
    reasons = [reason for reason, is_so in unread.items() if is_so]
    if not reasons:
        return []
    return [f"only llm-foundry's MPT class reads this folder, not transformers' own: {', '.join(reasons)}"]


# ---------------------------------------------------------------------------------------------------------- within


def _read_published(source: Path) -> tuple[Mapping[str, Any], DecoderConfiguration]:
    if not source.is_dir():
        raise no_folder("the published folder does not exist", source)
    if not (source / CONFIG).is_file():
        raise UserError(f"the folder has no {CONFIG}, so it is no checkpoint", where=source, fix="check the path")
    config = read_json_object(source / CONFIG)
    quantisation = config.get("quantization_config")
    if quantisation:
        method = quantisation.get("quant_method", "unknown method") if isinstance(quantisation, dict) else quantisation
        raise UserError(
            f"the checkpoint is quantised ({method}); only full-precision ones are read",
            where=f"{source / CONFIG} (quantization_config)",
            fix="import the checkpoint it was made of; ours are quantised when they are loaded (--dtype int8)",
        )
    return config, from_published(config, source / CONFIG)


def _with_window(configuration: DecoderConfiguration, window: Window) -> DecoderConfiguration:
    if window == "keep" or window == configuration.window:
        return configuration
    if "window" not in load_family(configuration.family).keys:
        raise UserError(
            f"the family '{configuration.family}' has no window",
            where="--window",
            fix="leave the flag out; mistral is the family that has one",
        )
    if window is not None and window < 1:
        raise UserError(f"a window of {window} keys sees nothing", where="--window", fix="give 1 or more, or none")
    return configuration.model_copy(update={"window": window})


def _provenance(source: Path, model_type: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    files = [path for path in files_under(source) if path.parent == source]
    total = sum(path.stat().st_size for path in files)
    shown = progress(files, doing="checksums", unit="files") if total > _BYTES_WITHOUT_BAR else files
    return {
        "source": source.resolve().name,
        "model_type": model_type,
        "settings": dict(settings),
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in shown},
    }


def _bridged(out: Path, configuration: DecoderConfiguration, notes: Sequence[str]) -> Bridged:
    return Bridged(out, configuration.family, configuration.num_parameters(), tuple(files_under(out)), tuple(notes))


def _check_out(source: Path, out: Path, *, force: bool) -> None:
    """Refuse an output that would destroy what is read, or what is not ours to replace."""
    _check_apart(source, out)
    if out.exists() and not force:
        raise UserError("the output exists already", where=out, fix="choose another name, or replace it with --force")
    if out.exists() and not (out / CONFIG).is_file():
        raise UserError(
            f"the output exists and holds no weights (no {CONFIG}), so it is not replaced",
            where=out,
            fix="choose another name, or remove it yourself",
        )
    foreign = sorted(_foreign_files(out))
    if foreign:
        named = ", ".join(foreign[:_NAMED_FILES]) + (", …" if len(foreign) > _NAMED_FILES else "")
        raise UserError(
            f"the output holds more than weights ({named}), so it is not replaced",
            where=out,
            fix="choose another name, or move those away",
        )


def _check_apart(source: Path, out: Path) -> None:
    """Refuse an output that is the folder that is read, lies in it, or has it inside."""
    read, written = source.resolve(), out.resolve()
    if read == written:
        raise UserError("the output is the folder that is read", where=out, fix="choose another name")
    if read in written.parents:
        raise UserError(f"the output lies inside the folder that is read ({source})", where=out, fix="write beside it")
    if written in read.parents:
        raise UserError(f"the folder that is read ({source}) lies inside the output", where=out, fix="write beside it")


def _foreign_files(folder: Path) -> list[str]:
    """What a folder holds that no import or export writes, by its path in the folder."""
    known = {CONFIG, GENERATION, PROVENANCE, INDEX, *TOKENIZER_FILES}
    known |= {parent.as_posix() for name in TOKENIZER_FILES for parent in Path(name).parents}
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    return [name for name in names if name not in known and not _TENSOR_FILE.fullmatch(name)]
