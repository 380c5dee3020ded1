"""A weights folder as one GGUF file for llama.cpp, written tensor by tensor.

What llama.cpp's code would compute differently is refused, or said where it is a matter of rounding.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from torch import Tensor

from vernacular.foundation.errors import UserError, missing_extra, unknown_name
from vernacular.foundation.files import atomic_path
from vernacular.foundation.progress import progress
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.family import load_family
from vernacular.models.gguf.pre_tokenizer import Agreement, choose, has_llama_cpp, measure
from vernacular.models.gguf.vocabulary import Vocabulary, read_vocabulary
from vernacular.models.tensor_files import TensorFolder, tensor_files
from vernacular.models.weights import read_config
from vernacular.tokens.template import TEMPLATE_FILE, ChatTemplate
from vernacular.tokens.tokenizer import Tokenizer

# Our name: GGUF's type of a tensor, and of a file.
TYPES = {"float32": ("F32", 0), "float16": ("F16", 1), "bfloat16": ("BF16", 32), "q8_0": ("Q8_0", 7)}
_Q8_BLOCK = 32


class Entry(NamedTuple):
    """A tensor of the GGUF file and what it is made of."""

    name: str
    source: str
    """The tensor in the weights folder."""
    shape: tuple[int, ...]
    heads: int | None
    """Heads whose rows are reordered, for llama.cpp's rotary positions."""
    half: int | None
    """Which half of each expert's matrix."""
    type: str


def write_gguf(weights: Path, out: Path, *, dtype: str | None, force: bool, ids_only: bool) -> list[str]:
    """Write the file; sentences that its reader should know.

    Args:
        weights: a weights folder with its tokenizer.
        out: the file; appears when it is whole.
        dtype: float32, float16, bfloat16 or q8_0 (norms and routers stay float32); None: as most tensors are stored.
        force: replace the file where it exists.
        ids_only: write it even where llama.cpp cuts text into other tokens.

    Raises:
        UserError: the file exists, or llama.cpp has no words for the model or its tokenizer.
        MachineError: the extra `[gguf]` is not installed.
    """
    if importlib.util.find_spec("gguf") is None:
        raise missing_extra("gguf", "gguf", "exporting to GGUF")
    if out.is_dir() or (out.exists() and not force):
        raise UserError("the output exists already", where=out, fix="choose another file, or replace it with --force")
    configuration = read_config(weights)
    notes = check_computed(configuration)
    tokenizer = Tokenizer.load(weights)
    vocabulary = read_vocabulary(weights, tokenizer, configuration.vocab_size)
    agreement = _agreement(tokenizer, vocabulary, configuration)
    if agreement.differing and not ids_only:
        raise UserError(
            f"llama.cpp has no way to cut text that gives this tokenizer's tokens: {agreement.sentence}, "
            f"for one '{agreement.differing[0]}' (closest: {agreement.pre_tokenizer})",
            where=weights / "tokenizer.json",
            fix="--ids-only writes the file for programs that hand llama.cpp token ids, as Vernacular's back-end does",
        )
    notes.append(f"tokenizer: {agreement.sentence}")
    with TensorFolder(tensor_files(weights)) as tensors, atomic_path(out) as temporary:
        dtype = dtype or _most_common(tensors)
        if dtype not in TYPES:
            raise unknown_name("dtype", dtype, TYPES)
        entries = list(plan(configuration, tensors, TYPES[dtype][0]))
        writer = _writer(temporary, configuration)
        _add_settings(writer, configuration, TYPES[dtype][1])
        _add_tokenizer(writer, weights, tokenizer, vocabulary, agreement)
        _write_tensors(writer, entries, tensors)
    return notes


@cache
def _layout() -> dict[str, Any]:
    text = (files("vernacular.models.gguf") / "layout.yaml").read_text(encoding="utf-8")
    layout: dict[str, Any] = yaml.safe_load(text)
    return layout


def check_computed(configuration: DecoderConfiguration) -> list[str]:
    """Refuse what llama.cpp's code would compute differently; sentences about what differs by rounding or in length."""
    notes = []
    for key, known in _layout()["families"][configuration.family]["computes"].items():
        value = getattr(configuration, key)
        if key == "window" and value is not None:
            # The same as long as no window is full.
            if value < configuration.max_positions:
                notes.append(
                    f"llama.cpp does not know this family's window of {value}; the file's context is cut to it, "
                    f"from {configuration.max_positions}"
                )
        elif value not in known:
            raise UserError(
                f"llama.cpp's code for {configuration.family} computes {key} {', '.join(map(str, known))}, not {value}",
                where=key,
                fix="export as transformers",
            )
        elif value == "gelu":
            notes.append("llama.cpp computes GELU by its tanh formula; logits differ in the third decimal")
    return notes


def plan(configuration: DecoderConfiguration, tensors: TensorFolder, type: str) -> Iterator[Entry]:
    """The file's tensors, in the order of the weights folder."""
    layout = _layout()
    rotates = layout["families"][configuration.family]["rotates_neighbours"]
    heads = {"query": configuration.num_heads, "key": configuration.num_key_value_heads}
    for source, ours in load_family(configuration.family).published_tensors(configuration):
        pattern, layer = _pattern(ours[0])
        names = layout["tensors"][pattern] if len(ours) == 1 else [layout["joined"]]
        stored = tensors.facts[source].shape
        rotated = next((count for part, count in heads.items() if ours[0].endswith(f"project.{part}.weight")), None)
        for half, name in enumerate(names):
            name = name.replace("{layer}", layer)
            shape = (stored[0], stored[1] // len(names), *stored[2:]) if len(names) > 1 else stored
            is_kept = name.rsplit(".", 1)[-1] in layout["float32"]
            if type == "Q8_0" and not is_kept and shape[-1] % _Q8_BLOCK:
                raise UserError(
                    f"q8_0 packs rows in blocks of {_Q8_BLOCK}, and those of '{source}' have {shape[-1]} values",
                    where="--dtype",
                    fix="use bfloat16 or float16",
                )
            yield Entry(
                f"{name}.weight",
                source,
                shape,
                rotated if rotates and len(ours) == 1 else None,
                half if len(names) > 1 else None,
                "F32" if is_kept else type,
            )


def _pattern(name: str) -> tuple[str, str]:
    """A tensor's name with {layer} for its layer's number, and that number."""
    parts = name.split(".")
    if parts[0] != "blocks":
        return name, ""
    return ".".join(["blocks", "{layer}", *parts[2:]]), parts[1]


def values(entry: Entry, stored: Tensor) -> np.ndarray[Any, Any]:
    """The entry's values as they lie in the file: rows of queries and keys reordered, a half taken, packed."""
    import gguf

    if entry.half is not None:
        stored = stored.chunk(2, dim=1)[entry.half]
    if entry.heads is not None:
        # Of each head, (half, pair) becomes (pair, half): value c and value c + C/2 come to stand side by side.
        stored = stored.unflatten(0, (entry.heads, 2, -1)).transpose(1, 2).flatten(0, 2)
    if entry.type == "BF16":
        return stored.to(torch.bfloat16).contiguous().view(torch.int16).numpy()
    if entry.type == "F16":
        halves = stored.to(torch.float16)
        if not bool(halves.isfinite().all()):
            raise UserError(
                f"float16 cannot hold a value of '{entry.source}'", where="--dtype", fix="use bfloat16 or float32"
            )
        return halves.contiguous().numpy()
    floats = stored.float().contiguous().numpy()
    packed: np.ndarray[Any, Any] = gguf.quants.quantize(floats, gguf.GGMLQuantizationType[entry.type])
    return packed


# ---------------------------------------------------------------------------------------------------------- within


def _most_common(tensors: TensorFolder) -> str:
    sizes: dict[str, int] = {}
    for facts in tensors.facts.values():
        name = str(facts.dtype).removeprefix("torch.")
        sizes[name] = sizes.get(name, 0) + facts.num_bytes
    return max(sizes, key=sizes.__getitem__)


def _writer(path: Path, configuration: DecoderConfiguration) -> Any:
    import gguf

    return gguf.GGUFWriter(path, _layout()["families"][configuration.family]["architecture"])


def _add_settings(writer: Any, configuration: DecoderConfiguration, file_type: int) -> None:
    family = _layout()["families"][configuration.family]
    window = configuration.window
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    writer.add_size_label(f"{configuration.num_parameters() / 1e9:.2f}B")
    writer.add_vocab_size(configuration.vocab_size)
    writer.add_context_length(min(configuration.max_positions, window or configuration.max_positions))
    writer.add_embedding_length(configuration.hidden_size)
    writer.add_block_count(configuration.num_layers)
    writer.add_feed_forward_length(configuration.intermediate_size)
    writer.add_head_count(configuration.num_heads)
    writer.add_head_count_kv(configuration.num_key_value_heads)
    writer.add_key_length(configuration.head_dim)
    writer.add_value_length(configuration.head_dim)
    writer.add_float32(f"{family['architecture']}.{family['norm_epsilon']}", configuration.norm_epsilon)
    if configuration.position == "rotary":
        writer.add_rope_dimension_count(configuration.head_dim)
        writer.add_rope_freq_base(configuration.rope_theta)
    if configuration.num_experts is not None:
        writer.add_expert_count(configuration.num_experts)
        writer.add_expert_used_count(configuration.experts_per_token)
    for ours, theirs in family.get("scales", {}).items():
        value = getattr(configuration, ours)
        if value is not None:
            writer.add_float32(f"{family['architecture']}.{theirs}", float(value))


def _agreement(tokenizer: Tokenizer, vocabulary: Vocabulary, configuration: DecoderConfiguration) -> Agreement:
    write = partial(_write_vocabulary, tokenizer, vocabulary, configuration)
    if vocabulary.model == "gpt2":
        return choose(tokenizer, vocabulary.contents, write)
    if has_llama_cpp():
        return measure(tokenizer, "default", write)
    return Agreement("default", 0, (), False)


def _write_vocabulary(
    tokenizer: Tokenizer, vocabulary: Vocabulary, configuration: DecoderConfiguration, path: Path, name: str
) -> None:
    """A file with the tokenizer alone."""
    writer = _writer(path, configuration)
    _add_settings(writer, configuration, 0)
    _add_vocabulary(writer, tokenizer, vocabulary, name)
    _write_tensors(writer, [], None)


def _add_tokenizer(
    writer: Any, weights: Path, tokenizer: Tokenizer, vocabulary: Vocabulary, agreement: Agreement
) -> None:
    _add_vocabulary(writer, tokenizer, vocabulary, agreement.pre_tokenizer)
    writer.add_string("vernacular.tokenizer", agreement.sentence)
    if (weights / TEMPLATE_FILE).is_file():
        writer.add_chat_template(ChatTemplate.load(weights).source)


def _add_vocabulary(writer: Any, tokenizer: Tokenizer, vocabulary: Vocabulary, pre_tokenizer: str) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    if vocabulary.model == "gpt2":
        writer.add_token_merges(list(vocabulary.merges))
    else:
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(vocabulary.adds_blank)
    for name, add in (
        ("bos_token", writer.add_bos_token_id),
        ("eos_token", writer.add_eos_token_id),
        ("pad_token", writer.add_pad_token_id),
        ("unk_token", writer.add_unk_token_id),
    ):
        token_id = tokenizer.named_id(name)
        if token_id is not None:
            add(token_id)
    writer.add_add_bos_token(tokenizer.begin_ids == (tokenizer.named_id("bos_token"),))
    writer.add_add_eos_token(False)


def _write_tensors(writer: Any, entries: Sequence[Entry], tensors: TensorFolder | None) -> None:
    import gguf

    for entry in entries:
        type = gguf.GGMLQuantizationType[entry.type]
        block, block_bytes = gguf.GGML_QUANT_SIZES[type]
        size = int(np.prod(entry.shape)) // block * block_bytes
        writer.add_tensor_info(entry.name, entry.shape, np.dtype(np.float32), size, raw_dtype=type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if tensors is not None:
        for entry in progress(entries, doing="tensors", unit="tensors"):
            writer.write_tensor_data(values(entry, tensors.read(entry.source)))
    writer.close()
