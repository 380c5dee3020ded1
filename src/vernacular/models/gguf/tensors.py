"""The tensors of a GGUF file: llama.cpp's names, its order of rows, its types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from torch import Tensor

from vernacular.foundation.errors import UserError
from vernacular.foundation.progress import progress
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.family import load_family
from vernacular.models.tensor_files import TensorFolder

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


@cache
def layout() -> dict[str, Any]:
    """The table of llama.cpp's names."""
    text = (files("vernacular.models.gguf") / "layout.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table


def plan(configuration: DecoderConfiguration, tensors: TensorFolder, type: str) -> Iterator[Entry]:
    """The file's tensors, in the order of the weights folder."""
    table = layout()
    rotates = table["families"][configuration.family]["rotates_neighbours"]
    heads = {"query": configuration.num_heads, "key": configuration.num_key_value_heads}
    for source, ours in load_family(configuration.family).published_tensors(configuration):
        pattern, layer = _pattern(ours[0])
        names = table["tensors"][pattern] if len(ours) == 1 else [table["joined"]]
        stored = tensors.facts[source].shape
        rotated = next((count for part, count in heads.items() if ours[0].endswith(f"project.{part}.weight")), None)
        for half, name in enumerate(names):
            name = name.replace("{layer}", layer)
            shape = (stored[0], stored[1] // len(names), *stored[2:]) if len(names) > 1 else stored
            is_kept = name.rsplit(".", 1)[-1] in table["float32"]
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


def most_common(tensors: TensorFolder) -> str:
    """The dtype that most bytes are stored in, by our name."""
    sizes: dict[str, int] = {}
    for facts in tensors.facts.values():
        name = str(facts.dtype).removeprefix("torch.")
        sizes[name] = sizes.get(name, 0) + facts.num_bytes
    return max(sizes, key=sizes.__getitem__)


def write_tensors(writer: Any, entries: Sequence[Entry], tensors: TensorFolder | None) -> None:
    """Write the settings that the writer was given, then the tensors, one at a time, and close the file."""
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
