"""What a release carries as proof: its ancestors' records, the evaluation's, and what curation removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute
import pyarrow.parquet

from vernacular.evaluation.records import RECORDS as EVALUATION_RECORDS
from vernacular.evaluation.scores import SCORES
from vernacular.foundation.artifact import LOGS, Artifact, read_artifact
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path, files_under, write_json
from vernacular.publishing.layout import EVALUATION, REMOVED, metrics_file, stage_file

_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def copy_weights(weights: Path, release: Path) -> list[str]:
    """Put the weights folder's files into the release; tensors by a second name for the same bytes where possible."""
    names = [path.name for pattern in _WEIGHTS for path in sorted(weights.glob(pattern))]
    if not any(name.endswith(".safetensors") for name in names):
        raise UserError("the folder holds no weights (no .safetensors file)", where=weights, fix="check the path")
    for name in names:
        with atomic_path(release / name) as temporary:
            if name.endswith(".safetensors"):
                _link_or_copy(weights / name, temporary)
            else:
                shutil.copyfile(weights / name, temporary)
    return names


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink()
    try:
        os.link(source, target)
    except OSError:  # Another disk, or a file system without links; a full disk shows when copying.
        shutil.copyfile(source, target)


def copy_evaluation(scores: Path, release: Path) -> None:
    """Copy the evaluation's record."""
    for path in [scores / SCORES, *files_under(scores / EVALUATION_RECORDS)]:
        with atomic_path(release / EVALUATION / path.relative_to(scores)) as temporary:
            shutil.copyfile(path, temporary)


def copy_stages(ancestry: Sequence[tuple[str, Path]], release: Path) -> list[str]:
    """Write each ancestor's record without the folders of this machine, and its metrics; returns the names in order."""
    names: list[str] = []
    for name, folder in ancestry:
        artifact = read_artifact(folder)
        if name in names:
            raise UserError(f"two ancestors are called '{name}'", where=folder, fix="rename one of the stages")
        names.append(name)
        write_json(release / stage_file(name), _without_folders(_record(name, artifact)))
        metrics = folder / LOGS / "metrics.jsonl"
        if metrics.is_file():
            with atomic_path(release / metrics_file(name)) as temporary:
                shutil.copyfile(metrics, temporary)
    return names


def _record(name: str, artifact: Artifact) -> dict[str, Any]:
    record = asdict(artifact)
    del record["outputs"]
    return {**record, "stage": name}


def _without_folders(value: Any) -> Any:
    """JSON with every absolute path cut to its last part: whose folder it was is nobody's business."""
    if isinstance(value, Mapping):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    if isinstance(value, str) and value.startswith(("/", "~/")) and "\n" not in value:
        return Path(value).name
    return value


def write_removed(ancestry: Sequence[tuple[str, Path]], release: Path) -> None:
    """Count what curation removed, by reason, from the removed documents themselves."""
    reasons: dict[str, dict[str, int]] = {}
    sources = [folder for _, folder in ancestry if (folder / "removed").is_dir()]
    for folder in sources:
        for path in sorted((folder / "removed").glob("*.parquet")):
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches(columns=["reason", "text"]):
                sizes = pyarrow.compute.binary_length(batch.column("text")).to_pylist()
                for reason, size in zip(batch.column("reason").to_pylist(), sizes, strict=True):
                    count = reasons.setdefault(reason, {"documents": 0, "bytes": 0})
                    count["documents"] += 1
                    count["bytes"] += size or 0
    if sources:
        ordered = dict(sorted(reasons.items(), key=lambda item: (-item[1]["documents"], item[0])))
        total = sum(count["documents"] for count in ordered.values())
        write_json(release / REMOVED, {"documents": total, "reasons": ordered})
