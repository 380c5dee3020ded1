"""Weights folders as publishers have them, small: their shapes, and ways to change what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from vernacular.models.weights import load_decoder

GRANITE = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.05,
    "residual_multiplier": 0.22,
    "logits_scaling": 6.0,
    "tie_embeddings": True,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama", "num_key_value_heads": 2, "head_dim": 20},
    "mistral": {"family": "mistral", "num_key_value_heads": 1, "window": 9},
    "granite": {"family": "granite", **GRANITE},
    "granitemoe": {"family": "granitemoe", "num_experts": 5, "experts_per_token": 2, **GRANITE},
    "mpt": {"family": "mpt", "tie_embeddings": True, "clip_qkv": 0.5},
    "mpt, grouped": {"family": "mpt", "tie_embeddings": True, "num_key_value_heads": 2},
}


def contents(folder: Path) -> dict[str, bytes]:
    """All that an import writes, but the record of where it came from."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "provenance.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def as_legacy(folder: Path, *, shards: int = 1, zipped: bool = True) -> None:
    """Rewrite a published folder's tensors as PyTorch pickles."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = [names[number::shards] for number in range(shards)]
    files = [f"pytorch_model-{n + 1:05d}-of-{shards:05d}.bin" for n in range(shards)] if shards > 1 else []
    for file, part in zip(files or ["pytorch_model.bin"], parts, strict=True):
        torch.save({name: tensors[name] for name in part}, folder / file, _use_new_zipfile_serialization=zipped)
    if files:
        weight_map = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def change_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))


def change_tensors(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path) | changes
    save_file({name: value for name, value in tensors.items() if value is not None}, path, {"format": "pt"})


def logits(folder: Path) -> torch.Tensor:
    decoder = load_decoder(folder)
    with torch.no_grad():
        return decoder.logits(decoder(torch.arange(3, 43)[None]))


# ------------------------------------------------------------------------------------------------- there and back
