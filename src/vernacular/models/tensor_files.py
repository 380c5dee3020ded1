"""Tensors in files: safetensors and legacy pickles are read one tensor at a time, safetensors are written so.

A tensor is mapped into memory when it is read, from one file at a time: of a folder of any size, no more is ever held
than what is in use (of a legacy file, the file).
Formats: https://github.com/huggingface/safetensors (format), PyTorch's `torch.save` (legacy).
"""

from __future__ import annotations

import json
import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path, read_json_object, write_json

TENSORS = "model.safetensors"
INDEX = "model.safetensors.index.json"
LEGACY_TENSORS = "pytorch_model.bin"
LEGACY_INDEX = "pytorch_model.bin.index.json"
SHARD_BYTES = 5_000_000_000

_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
# What torch.load raises where the bytes are no pickle, or the pickle is none of its own.
_UNREADABLE = (
    RuntimeError, EOFError, ValueError, OSError, LookupError, TypeError, AttributeError, AssertionError,
    OverflowError, struct.error,
)  # fmt: skip


class TensorFacts(NamedTuple):
    """What a file says of a tensor before it is read."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of its values."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


class TensorFile(Protocol):
    """An open file of tensors."""

    def facts(self) -> Iterator[TensorFacts]:
        """Name, dtype and shape of each tensor, in the file's order."""
        ...

    def read(self, name: str) -> Tensor:
        """The tensor, on the CPU: a view of the mapped file, valid after the file is closed too."""
        ...


# ------------------------------------------------------------------------------------------------------------ read


def tensor_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, one or sharded.

    Raises:
        UserError: one of them is missing, or the folder has legacy files only.
    """
    if (folder / INDEX).is_file() or (folder / TENSORS).is_file() or not _has_legacy(folder):
        return _listed(folder, INDEX, TENSORS)
    raise UserError(
        f"the folder holds its weights in the legacy format ({LEGACY_TENSORS}), which is imported, not used as it is",
        where=folder,
        fix=f"vernacular import {folder} OUT",
    )


def published_files(folder: Path) -> list[Path]:
    """As `tensor_files`, the legacy `pytorch_model.bin` where there are no safetensors."""
    if (folder / INDEX).is_file() or (folder / TENSORS).is_file() or not _has_legacy(folder):
        return _listed(folder, INDEX, TENSORS)
    return _listed(folder, LEGACY_INDEX, LEGACY_TENSORS)


def _has_legacy(folder: Path) -> bool:
    return (folder / LEGACY_INDEX).is_file() or (folder / LEGACY_TENSORS).is_file()


def _listed(folder: Path, index: str, single: str) -> list[Path]:
    names = [single]
    if (folder / index).is_file():
        weight_map = read_json_object(folder / index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise UserError("the index has no weight_map", where=folder / index, fix="fetch it again")
        names = sorted(set(weight_map.values()))
    for name in names:
        if Path(name).name != name:
            raise UserError(f"the index names a file outside the folder: {name}", where=folder / index)
        if not (folder / name).is_file():
            raise UserError(f"the weights file {name} is missing", where=folder, fix="download or export it again")
    return [folder / name for name in names]


def open_tensors(file: Path) -> AbstractContextManager[TensorFile]:
    """Open a file of tensors, safetensors or a legacy pickle by its name's end; one that cannot be read is refused."""
    return _open_safetensors(file) if file.suffix == ".safetensors" else _open_pickle(file)


class _Safetensors:
    """Each tensor is a mapping of its own, so that its pages go when it does, not when the file's last tensor does."""

    def __init__(self, file: Path, raw: BinaryIO, content: Any) -> None:
        self._raw = raw
        self._places: dict[str, tuple[TensorFacts, int]] = {}
        # The tensors stand side by side without gaps: safetensors has refused any other file.
        position = 8 + int.from_bytes(raw.read(8), "little")
        for name in content.offset_keys():
            part = content.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise _not_float(name, part.get_dtype(), file)
            facts = TensorFacts(name, _DTYPES[part.get_dtype()], tuple(part.get_shape()))
            self._places[name] = facts, position
            position += facts.num_bytes

    def facts(self) -> Iterator[TensorFacts]:
        return (facts for facts, _ in self._places.values())

    def read(self, name: str) -> Tensor:
        facts, position = self._places[name]
        if not facts.num_bytes:
            return torch.empty(facts.shape, dtype=facts.dtype)
        before = position % mmap.ALLOCATIONGRANULARITY
        mapping = mmap.mmap(
            self._raw.fileno(), before + facts.num_bytes, offset=position - before, access=mmap.ACCESS_COPY
        )
        return torch.frombuffer(mapping, dtype=facts.dtype, offset=before).view(facts.shape)


class _Pickle:
    def __init__(self, file: Path, content: Mapping[str, Tensor]) -> None:
        self._file, self._content = file, content

    def facts(self) -> Iterator[TensorFacts]:
        for name, tensor in self._content.items():
            if tensor.dtype not in _NAMES:
                raise _not_float(name, str(tensor.dtype).removeprefix("torch."), self._file)
            yield TensorFacts(name, tensor.dtype, tuple(tensor.shape))

    def read(self, name: str) -> Tensor:
        return self._content[name].detach()


@contextmanager
def _open_safetensors(file: Path) -> Iterator[TensorFile]:
    try:
        with safe_open(file, framework="np") as content, open(file, "rb") as raw:
            yield _Safetensors(file, raw, content)
    except SafetensorError as error:
        raise UserError(
            f"the weights file cannot be read: {error}", where=file, fix="it may be truncated; fetch it again"
        ) from error


@contextmanager
def _open_pickle(file: Path) -> Iterator[TensorFile]:
    # Files of PyTorch before 1.6 are no zip archives and cannot be mapped; they are read whole.
    is_mapped = zipfile.is_zipfile(file)
    with open(file, "rb") as raw:
        if not is_mapped and raw.read(2) in (b"PK", b""):
            raise UserError("the weights file is cut short", where=file, fix="fetch it again")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_mapped)
    except pickle.UnpicklingError as error:
        raise _not_unpickled(file, str(error)) from error
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it ends early"
        raise UserError(
            f"the weights file cannot be read: {reason}", where=file, fix="it may be truncated; fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"the file holds a {type(content).__name__}, not tensors by name", where=file)
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise UserError(f"'{name}' is a {type(value).__name__}, not a tensor", where=file)
    yield _Pickle(file, content)


def _not_unpickled(file: Path, said: str) -> UserError:
    """The error for a pickle that asks for what is no tensor, or that is none."""
    reason = said.partition("WeightsUnpickler error:")[2].strip() or said.strip() or "it ends early"
    reason = reason.splitlines()[0]
    if "global" not in reason.lower() and "class" not in reason.lower():
        return UserError(
            f"the weights file cannot be read: {reason}", where=file, fix="it may be truncated; fetch it again"
        )
    return UserError(
        f"the file is a pickle of more than plain tensors, which could run any code when read: {reason}",
        where=file,
        fix="take the publisher's safetensors, or a file that holds a state_dict only",
    )


def _not_float(name: str, stored: str, file: Path) -> UserError:
    return UserError(
        f"the tensor '{name}' is stored as {stored}; quantised weights are not read",
        where=file,
        fix="take the publisher's weights in bfloat16, float16 or float32",
    )


class TensorFolder:
    """A folder's tensors by name, whichever file each lies in; a context manager that keeps one file open at a time.

    Raises:
        UserError: a file is missing or truncated, holds what is no float tensor, or a name stands in two files.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.facts: dict[str, TensorFacts] = {}
        self.files: dict[str, Path] = {}
        for file in files:
            with open_tensors(file) as tensors:
                for facts in tensors.facts():
                    if facts.name in self.facts:
                        other = self.files[facts.name].name
                        raise UserError(f"the tensor '{facts.name}' stands in {other} too", where=file)
                    self.facts[facts.name] = facts
                    self.files[facts.name] = file
        self._stack = ExitStack()
        self._open: tuple[Path, TensorFile] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, name: str) -> Tensor:
        """The tensor, mapped."""
        file = self.files[name]
        if self._open is None or self._open[0] != file:
            self._close()
            self._open = (file, self._stack.enter_context(open_tensors(file)))
        return self._open[1].read(name)

    def _close(self) -> None:
        self._open = None
        self._stack.close()


# ----------------------------------------------------------------------------------------------------------- write


def write_tensors(
    folder: Path, tensors: Sequence[TensorFacts], read: Callable[[str], Tensor], shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write tensors into one safetensors file, or, above `shard_bytes`, into shards and their index.

    Args:
        folder: receives `model.safetensors`, or `model-00001-of-0000N.safetensors` … and their index.
        tensors: what to write, in order; a tensor larger than `shard_bytes` gets a shard to itself.
        read: a tensor by name; asked for one at a time, in order, and converted to the dtype stated.
        shard_bytes: most bytes of tensors in a file.
    """
    shards = _cut(tensors, shard_bytes)
    if len(shards) == 1:
        _write_file(folder / TENSORS, shards[0], read)
        return [folder / TENSORS]
    weight_map: dict[str, str] = {}
    paths = []
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_file(folder / name, shard, read)
        weight_map.update({facts.name: name for facts in shard})
        paths.append(folder / name)
    total = sum(facts.num_bytes for facts in tensors)
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))})
    return paths


def _cut(tensors: Sequence[TensorFacts], shard_bytes: int) -> list[list[TensorFacts]]:
    shards: list[list[TensorFacts]] = [[]]
    held = 0
    for facts in tensors:
        if shards[-1] and held + facts.num_bytes > shard_bytes:
            shards.append([])
            held = 0
        shards[-1].append(facts)
        held += facts.num_bytes
    return shards


def _write_file(path: Path, tensors: Sequence[TensorFacts], read: Callable[[str], Tensor]) -> None:
    # Wide types first, so that every tensor starts at a multiple of its own width.
    tensors = sorted(tensors, key=lambda facts: -facts.dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for facts in tensors:
        end = position + facts.num_bytes
        header[facts.name] = {
            "dtype": _NAMES[facts.dtype], "shape": list(facts.shape), "data_offsets": [position, end]
        }  # fmt: skip
        position = end
    written = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    written += b" " * (-len(written) % 8)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(written).to_bytes(8, "little") + written)
        for facts in tensors:
            tensor = read(facts.name).detach().to("cpu", facts.dtype).contiguous()
            file.write(tensor.view(-1).view(torch.uint8).numpy().data)
